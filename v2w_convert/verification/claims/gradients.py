"""The same two truths by automatic differentiation: a witness that changes no input.

Changing an input shows what it does at one point; a gradient, what would come of the smallest change.
"""

import torch
from torch import Tensor

from v2w_convert.plan.probe import Visit, watched
from v2w_convert.verification.claims.causality import first_module
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, counted_frames
from v2w_convert.verification.engine.inputs import Inputs, change_frames, due_blocks, enough_frames, random_inputs
from v2w_convert.verification.claims.receptive_field import first_forgetful
from v2w_convert.world.model import World


def gradients(world: World) -> list[Claim]:
    """Of every frame's output by everything given for every frame, as far as it is a floating number."""
    n, blocks = world.frames_per_block, enough_frames(world) // world.frames_per_block
    inputs = random_inputs(world, 2, blocks * n, seed=0)
    effect = _effects(world, inputs, blocks)
    future = torch.stack(list(effect.values())).amax(0).triu(1)
    largest, where = float(future.max()), ""
    if largest > 0:
        after = int((future > 0).any(1).nonzero()[0]) * n + n - 1
        kept = (torch.arange(blocks * n) <= after).expand(2, -1)
        where = first_module(
            world, inputs, change_frames(inputs, 1, world, tuple(inputs), ~kept), kept, graded=True
        )
    unit = "frame" if n == 1 else "block"
    due = due_blocks(world, blocks)
    unseen, smallest, ends = [], {}, ""
    for kind, each in effect.items():
        wanted = due.clone()
        if kind == "actions":  # nothing led to the first frame
            wanted[:, 0] &= n > 1
        missing = (wanted & (each == 0)).nonzero().tolist()
        unseen += [f"{kind} of {unit} {i} in output {o}" for o, i in missing]
        ends = ends or (_end(world, inputs, kind) if missing else "")
        smallest[kind] = float(each[wanted].min())
    return [
        Claim(
            "gradients-not-forward",
            largest,
            0.0,
            where,
            f"largest of ∂ output ∂ input, {', '.join(effect)}, {blocks} {unit}s; float64; zero layers woken",
            claim=f"No gradient runs from a {unit}'s output to a later {unit}",
        ),
        counted_frames(
            "gradients-reach-past",
            unseen,
            ends,
            f"pairs without a gradient, of {int(due.sum())} for each of "
            f"{', '.join(f'{kind} (least {least:.1e})' for kind, least in smallest.items())}; float64; zero layers woken",
            claim=f"Gradients run from every {unit}'s output to itself and the {int(due[-1].sum()) - 1} {unit}s before it",
        ),
    ]


def _end(world: World, inputs: Inputs, kind: str) -> str:
    """The first module that is given what depends on this kind of input and gives nothing that does; or, where all do, the
    first site that forgets.
    """
    reached: list[tuple[str, bool]] = []  # a module, and whether it hands the dependence on

    def note(name: str, visit: Visit) -> None:
        given, made = (any(x.requires_grad for x in side) for side in (visit.inputs, visit.outputs))
        if given:
            reached.append((name, made))

    with torch.enable_grad(), watched(world.base, note):
        world(**inputs | {kind: inputs[kind].clone().requires_grad_()})
    if not reached:
        return MODEL_FORWARD
    ends = (name for name, made in reached if not made)
    return next(ends, None) or first_forgetful(world)


def _effects(world: World, inputs: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """For each kind of input: row o, column i, the largest gradient of block o's output by block i's input; infinite if not finite.

    The output is weighted by random numbers, so that what would cancel does not.
    """
    given = {
        kind: x.clone().requires_grad_() for kind, x in inputs.items() if x.is_floating_point() and x.numel()
    }
    with torch.enable_grad():
        output = world(**inputs | given)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output)
        sums = (output * weights).unflatten(1, (blocks, -1)).transpose(0, 1).flatten(1).sum(1)
        rows = [
            torch.autograd.grad(sums[o], list(given.values()), retain_graph=True, allow_unused=True)
            for o in range(blocks)
        ]
    found = {}
    for place, (kind, x) in enumerate(given.items()):
        columns = [torch.zeros_like(x) if row[place] is None else row[place] for row in rows]
        each = torch.stack(
            [g.abs().unflatten(1, (blocks, -1)).transpose(0, 1).flatten(1).amax(1) for g in columns]
        )
        found[kind] = torch.where(torch.isfinite(each), each, torch.inf)
    return found

"""Causality and receptive field by automatic differentiation: a second witness, which changes no input.

A changed input shows the effect at one point; a gradient shows the effect of the smallest change.
"""

import torch
from torch import Tensor

from v2w_convert.plan.probe import Visit, watched
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec
from v2w_convert.verification.claims.receptive_field import first_blind_site
from v2w_convert.verification.engine.blame import first_leaking_module
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.inputs import (
    Inputs,
    change_frames,
    enough_frames,
    random_inputs,
    visible_blocks,
)
from v2w_convert.verification.engine.phases import TRAINING, WORLD_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import advise_against, fix_rules
from v2w_convert.world.model import World

CAUSAL = ClaimSpec(
    "gradients-causal",
    "causality",
    "No gradient flows from a frame's output to a later frame",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)
RECEPTIVE_FIELD = ClaimSpec(
    "gradients-receptive-field",
    "receptive-field",
    "Gradients flow from every frame's output to itself and the frames before it",
    fix=fix_rules(advise_against("forgets_past")),
)


def measure_gradients(world: World, dtype: str = "float64") -> list[Claim]:
    """Differentiate every frame's output by every floating input of every frame; `dtype` is the weights' own."""
    n, blocks = world.frames_per_block, enough_frames(world) // world.frames_per_block
    inputs = random_inputs(world, 2, blocks * n, seed=0)
    effect = _gradients(world, inputs, blocks)
    future = torch.stack(list(effect.values())).amax(0).triu(1)
    largest, where = float(future.max()), ""
    if largest > 0:
        after = int((future > 0).any(1).nonzero()[0]) * n + n - 1
        kept = (torch.arange(blocks * n) <= after).expand(2, -1)
        changed = change_frames(inputs, 1, world, tuple(inputs), ~kept)
        where = first_leaking_module(world, inputs, changed, kept, gradients=True)
    unit = "frame" if n == 1 else "block"
    expected = visible_blocks(world, blocks)
    missing: list[str] = []
    smallest: dict[str, float] = {}
    blamed = ""
    for kind, each in effect.items():
        wanted = expected.clone()
        if kind == "actions":  # no action leads to the first frame
            wanted[:, 0] &= n > 1
        pairs = (wanted & (each == 0)).nonzero().tolist()
        missing += [f"{kind} of {unit} {i} in output {o}" for o, i in pairs]
        blamed = blamed or (_where_gradient_ends(world, inputs, kind) if pairs else "")
        smallest[kind] = float(each[wanted].min())
    return [
        CAUSAL.result(
            largest,
            where=where,
            how=f"largest of ∂ output / ∂ input, {', '.join(effect)}, {blocks} {unit}s; {dtype}; zero-initialised "
            "layers randomised",
            sentence=f"No gradient flows from a {unit}'s output to a later {unit}",
        ),
        RECEPTIVE_FIELD.count_frames(
            missing,
            blamed,
            f"pairs without a gradient, of {int(expected.sum())} for each of "
            f"{', '.join(f'{kind} (smallest {value:.1e})' for kind, value in smallest.items())}; {dtype}; "
            "zero-initialised layers randomised",
            sentence=f"Gradients flow from every {unit}'s output to itself and the {int(expected[-1].sum()) - 1} {unit}s "
            "before it",
        ),
    ]


def _where_gradient_ends(world: World, inputs: Inputs, kind: str) -> str:
    """The first module whose inputs depend on this kind of input and whose outputs do not; if there is none, the first
    site that does not see its past.
    """
    reached: list[tuple[str, bool]] = []  # a module, and whether its outputs depend on that input

    def note(name: str, visit: Visit) -> None:
        inputs_depend, outputs_depend = (
            any(x.requires_grad for x in side) for side in (visit.inputs, visit.outputs)
        )
        if inputs_depend:
            reached.append((name, outputs_depend))

    with torch.enable_grad(), watched(world.base, note):
        world(**inputs | {kind: inputs[kind].clone().requires_grad_()})
    if not reached:
        return MODEL_FORWARD
    ends = (name for name, depends in reached if not depends)
    return next(ends, None) or first_blind_site(world)


def _gradients(world: World, inputs: Inputs, blocks: int) -> dict[str, Tensor]:
    """For each kind of input, (blocks blocks): the largest gradient of block o's output (row) by block i's input (column).

    Infinite where it is not finite. Outputs have random weights, so that gradients do not cancel.
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
    for index, (kind, x) in enumerate(given.items()):
        columns = [torch.zeros_like(x) if row[index] is None else row[index] for row in rows]
        each = torch.stack(
            [g.abs().unflatten(1, (blocks, -1)).transpose(0, 1).flatten(1).amax(1) for g in columns]
        )
        found[kind] = torch.where(torch.isfinite(each), each, torch.inf)
    return found


CHECKS = (
    Check(
        "gradients",
        (CAUSAL, RECEPTIVE_FIELD),
        WORLD_RANDOMIZED,
        lambda c: measure_gradients(c.world),
        Cost(passes=8),
        applies=lambda c: not c.large,
    ),
    # Nothing larger is added to a leak's gradient on its way, so that float32 sees it, too, down to its smallest number.
    Check(
        "gradients in float32",
        (CAUSAL, RECEPTIVE_FIELD),
        TRAINING,
        lambda c: measure_gradients(c.world, "float32"),
        Cost(passes=8),
        applies=lambda c: c.large,
    ),
)

"""No frame sees a later one, and no clip another: what is changed there changes nothing here, exactly."""

from typing import NamedTuple

import torch
from torch import Tensor

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import first_leak
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, counted_frames
from v2w_convert.verification.engine.inputs import Inputs, change_frames, enough_frames, random_inputs
from v2w_convert.world.model import World

AFFORDABLE = 16  # blocks to a window, or fewer: then longer clips are measured, too


def base_mixes(effect: Tensor) -> Claim:
    """The control. `effect` (t t) is the base's `influence`, woken."""
    following = effect.diagonal(1)
    blind = [f"frame {frame}" for frame in (following == 0).nonzero().flatten().tolist()]
    return counted_frames(
        "base-mixes",
        blind,
        "",
        f"frames without, of {len(following)}; the effects are {float(following.min()):.1e} … "
        f"{float(following.max()):.1e}; zero layers woken",
    )


class Trial(NamedTuple):
    """One draw of a clip for each cut, `blocks` long, of which what comes after its cut (a block) is changed.

    alone  each kind of input by itself besides all together
    """

    seed: int
    blocks: int
    cuts: list[int]
    alone: bool = False


def trials(world: World, brief: bool = False) -> list[Trial]:
    """Several draws and lengths. In each the clips have cuts of their own, so that one batch asks many questions.

    brief  for a large model: each kind alone after the middle only, and no clip longer than the window
    """
    t = enough_frames(world) // world.frames_per_block
    every = list(range(t - 1))
    some = [t // 2 - 1] if brief else sorted({0, t // 2 - 1, t - 2})
    chosen = [
        Trial(0, t, every),
        Trial(1, t, some, alone=True),
        Trial(2, 2, [0]),  # a batch of one, as short as can be
    ]
    window = None if world.resolved.window is None else world.resolved.window // world.frames_per_block
    longer = 2 * t if window is None or window < t else window + 1
    if longer <= AFFORDABLE + 1 and not brief:
        chosen.append(Trial(3, longer, [longer - 2, 0]))
    return chosen


def unseen_future(
    world: World, name: str = "future-unseen", note: str = "", asked: list[Trial] | None = None
) -> Claim:
    """Every kind of input changed after each frame; and each kind alone, after some.

    asked  the trials, where not `trials(world)`
    """
    n = world.frames_per_block
    asked = trials(world) if asked is None else asked
    largest, where, kinds = 0.0, "", []
    for seed, blocks, cuts, alone in asked:
        before = random_inputs(world, len(cuts), blocks * n, seed)
        kinds = [*before]
        kept = torch.arange(blocks * n) < (torch.tensor(cuts)[:, None] + 1) * n
        output = world(**before)
        for together in [kinds, *([[kind] for kind in kinds] if alone else [])]:
            after = change_frames(before, seed + 100, world, together, ~kept)
            change = max_abs_diff(world(**after)[kept], output[kept])
            if change > 0 and not where:
                where = first_module(world, before, after, kept)
            largest = max(largest, change)
    unit = "frames" if n == 1 else f"blocks of {n}"
    return Claim(
        name,
        largest,
        0.0,
        where,
        f"largest change of outputs 0 … t when all that comes later changes ({', '.join(kinds)}), for each t; each of "
        f"these alone after some t; {len({trial.seed for trial in asked})} draws, clips of "
        f"{_listed(sorted({trial.blocks for trial in asked}))} {unit}, batches of "
        f"{_listed(sorted({len(trial.cuts) for trial in asked}))}; zero layers woken{note}",
        claim=f"Frame t sees nothing of the frames after {'it' if n == 1 else f'its block of {n}'}, in "
        f"{str(world.dtype).removeprefix('torch.')}",
    )


def unseen_clips(world: World, b: int = 3) -> Claim:
    """One of b clips changed in everything; the others must not notice."""
    t = enough_frames(world)
    before = random_inputs(world, b, t, seed=0)
    output = world(**before)
    largest, where = 0.0, ""
    for clip in reversed(range(b)):
        kept = (torch.arange(b) != clip)[:, None].expand(-1, t)
        after = change_frames(before, 1, world, tuple(before), ~kept)
        change = max_abs_diff(world(**after)[kept], output[kept])
        if change > 0 and not where:
            where = first_module(world, before, after, kept)
        largest = max(largest, change)
    return Claim(
        "clips-apart",
        largest,
        0.0,
        where,
        f"largest change of any of {b} clips' outputs when everything of another changes; zero layers woken",
    )


def first_module(world: World, before: Inputs, after: Inputs, kept: Tensor, graded: bool = False) -> str:
    """The first module to notice, at `kept` frames (b t) bool, that the others have changed; `graded`: where gradients
    are taken.
    """
    x, y = (z["latents"].unflatten(1, (-1, world.frames_per_block)) for z in (before, after))

    def call(latents: Tensor) -> Tensor:
        with torch.set_grad_enabled(graded):
            output = world(**(before if latents is x else after)).detach()
        return output.flatten(0, 1).unflatten(0, latents.shape[:3])

    name = first_leak(world.base, call, x, y, kept[:, :: world.frames_per_block])
    return MODEL_FORWARD if name == "" else name or ""


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + (" and " if len(numbers) > 1 else "") + str(numbers[-1])

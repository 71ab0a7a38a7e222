"""No frame sees a later one, and no clip another: what is changed there changes nothing here, exactly."""

import torch
from torch import Tensor

from v2w_convert.operations.base import gap
from v2w_convert.plan.probe import first_leak
from v2w_convert.verify.claims import Claim, counted_frames
from v2w_convert.verify.inputs import Inputs, changed, draw, enough_frames
from v2w_convert.world.model import World

BASE_MIXES = "The base's frames do see the next one, so the measurement can see that"


def base_mixes(effect: Tensor) -> Claim:
    """The control. `effect` (t t) is the base's `influence`, woken."""
    following = effect.diagonal(1)
    blind = [f"frame {frame}" for frame in (following == 0).nonzero().flatten().tolist()]
    return counted_frames(
        "base-mixes",
        BASE_MIXES,
        blind,
        "",
        f"frames without, of {len(following)}; the effects are {float(following.min()):.1e} … "
        f"{float(following.max()):.1e}; zero layers woken",
    )


def unseen_future(world: World, name: str = "future-unseen", note: str = "") -> Claim:
    """Every kind of input changed after frame t, for each t; and each kind alone, after the middle."""
    t, n = enough_frames(world), world.n
    before = draw(world, 2, t, seed=0)
    output = world(**before)
    ends = range(n - 1, t - 1, n)  # last frames of blocks
    trials: list[tuple[int, tuple[str, ...]]] = [(cut, tuple(before)) for cut in ends]
    trials += [(ends[len(ends) // 2], (kind,)) for kind in before]
    largest, where = 0.0, ""
    for cut, kinds in trials:
        after = changed(before, 1, world, kinds, (torch.arange(t) > cut).expand(2, -1))
        change = gap(world(**after)[:, : cut + 1], output[:, : cut + 1])
        if change > 0 and not where:
            where = first_module(world, before, after, cut)
        largest = max(largest, change)
    precision = str(world.dtype).removeprefix("torch.")
    return Claim(
        name,
        f"Frame t sees nothing of the frames after {'it' if n == 1 else f'its block of {n}'}, in {precision}",
        largest,
        0.0,
        where,
        f"largest change of outputs 0 … t when all that comes later changes ({', '.join(before)}), for each t of "
        f"{t} frames, and each of these alone after the middle; zero layers woken{note}",
    )


def unseen_clips(world: World) -> Claim:
    """One of two clips changed in everything; the other must not notice."""
    t = enough_frames(world)
    before = draw(world, 2, t, seed=0)
    output = world(**before)
    changes, where = [], ""
    for clip in (1, 0):
        all_of_it = (torch.arange(2) == clip)[:, None].expand(-1, t)
        after = changed(before, 1, world, tuple(before), all_of_it)
        changes.append(gap(world(**after)[1 - clip], output[1 - clip]))
        if changes[-1] > 0 and clip == 1:
            # In the folded batch the second clip comes after the first, as if it were its future.
            where = first_module(world, before, after, t - 1, clips=True)
    return Claim(
        "clips-apart",
        "Clips of one batch do not see each other",
        max(changes),
        0.0,
        where,
        "largest change of one clip's output when everything of the other changes; zero layers woken",
    )


def repeatable(world: World) -> Claim:
    """Two runs of one input."""
    inputs = draw(world, 2, enough_frames(world), seed=0)
    first, second = world(**inputs), world(**inputs)
    measured = gap(first, second)
    where = "" if measured == 0 else first_module(world, inputs, inputs, inputs["latents"].shape[1] - 1)
    return Claim(
        "deterministic", "The same input gives the same output, bit for bit", measured, 0.0, where, "two runs"
    )


def first_module(world: World, before: Inputs, after: Inputs, t: int, clips: bool = False) -> str:
    """The first module to notice; `clips`: count frames through the whole batch, one clip after the other."""
    x, y = (z["latents"].unflatten(1, (-1, world.n)) for z in (before, after))
    if clips:
        x, y = (z.flatten(0, 1)[None] for z in (x, y))

    def call(latents: Tensor) -> Tensor:
        output = world(**(before if latents is x else after))
        return output.flatten(0, 1).unflatten(0, latents.shape[:3])

    name = first_leak(world.base, call, x, y, t // world.n)
    return "the model's own forward" if name == "" else name or ""

"""The probe: which modules let one frame influence another? Two runs are compared, with one latent frame changed.

There is no table of layouts: where a frame lies in a tensor follows from what changes when that frame changes. The model
must be deterministic (eval mode) and have no zero-initialised layers (`randomize_zero_init`), which would hide sites.
"""

import operator
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from v2w_convert.errors import V2WError


@dataclass(frozen=True)
class MixingSite:
    """A module through which one frame influences another.

    Attributes:
        name: Path in the model; "" is the model itself: what its own forward mixes, outside every module.
        module: Class name of the module.
        future: A later frame changed what belongs to an earlier one, or to no frame (text that saw the video).
        past: An earlier frame changed what belongs to a later one, or to no frame.
        largest: Largest absolute change, in the unit of the module's output.
        leak: Largest change that a later frame made so, relative to the largest value of that output.
    """

    name: str
    module: str
    future: bool
    past: bool
    largest: float
    leak: float


@torch.no_grad()
def randomize_zero_init(model: nn.Module, seed: int = 0) -> int:
    """Randomise, in place, what could hide a mixing site.

    These are zeros, wherever they stand (gates, last layers, the outer taps of a convolution that starts as the
    identity), and constant weights of two or more axes. Norm weights of one stay. Values are sampled in float32 on the
    CPU, normal with standard deviation 0.2, so that every device and dtype gets the same ones.

    Args:
        model: Of any float dtype.
        seed: Of the values.

    Returns:
        How many parameters changed.
    """
    generator = torch.Generator().manual_seed(seed)
    changed = 0
    for parameter in model.parameters():
        if not parameter.is_floating_point() or parameter.numel() == 0:
            continue
        hidden = parameter == 0
        if parameter.ndim >= 2 and operator.eq(*parameter.aminmax()):
            hidden.fill_(True)
        if hidden.any():
            noise = 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.copy_(torch.where(hidden, noise.to(parameter), parameter))
            changed += 1
    return changed


@torch.no_grad()
def mixing_sites(
    model: nn.Module, call: Callable[[Tensor], Tensor], latents: Tensor, frame_axis: int
) -> list[MixingSite]:
    """Every module of `model` through which frames mix, each once, in data-flow order (of first completion).

    The first and the last frame are changed in turn. What one frame changed in a module's inputs may change in its
    outputs, at the same frame; what else changes is mixed: the module is reported, and its output is restored to that
    of the unchanged run. So no module is blamed for its children or for earlier layers, and attention is one site.
    Once a forward has mixed by itself, between its children, the children that follow in it are not judged: its
    own module is the site, or "" if the leak reaches the output. A module that takes t frames and returns another
    number of them is not judged either, but its parent is. Comparisons are exact (any difference at all).
    Needs four runs, and memory for every module's inputs and outputs twice.

    Args:
        model: In eval mode, without zero-initialised layers.
        call: Runs the model on latents and returns its output, whose frames lie on `frame_axis` too; it closes over all
            other inputs.
        latents: Any layout with t >= 2 frames on `frame_axis`, any float dtype. Choose t (5, say) unlike every other
            size, numbers of tokens and widths included: a module that moves the frames to another axis is recognised
            by that axis having another size.
        frame_axis: Of latents and output.

    Raises:
        V2WError: There are fewer than two frames, the output has another number of them, or a frame's change is lost
            before the output (a last layer that is zero; a site that mixes while it moves the frames).
    """
    asked = "find the mixing sites"
    t = latents.shape[frame_axis]
    if t < 2:
        raise V2WError(asked, f"latents of {t} frame", "two frames or more")
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    shifted = latents + 3 * noise.to(latents)
    base, base_output = record(model, partial(call, latents))
    every, _ = record(model, partial(call, shifted))
    if base_output.shape[frame_axis] != t:
        found = f"an output of shape {tuple(base_output.shape)} for latents of shape {tuple(latents.shape)}"
        raise V2WError(asked, found, f"a call that returns {t} frames on axis {frame_axis}")

    leaks: dict[str, dict[str, float]] = {}  # direction -> site -> largest change
    for direction, frame in (("future", t - 1), ("past", 0)):
        changed = latents.clone()
        changed.select(frame_axis, frame).copy_(shifted.select(frame_axis, frame))
        output, leaks[direction] = run_repaired(model, partial(call, changed), base, every)
        difference = (output - base_output).abs()
        own = difference.select(frame_axis, frame)
        if not own.any():
            found = f"changing frame {frame} does not change its own output, so what it reaches is unknown"
            raise V2WError(
                asked, found, f"randomize_zero_init first; else look at {[*leaks[direction]] or 'the call'}"
            )
        own.zero_()
        if difference.any():
            leaks[direction][""] = float(difference.max())

    modules = dict(model.named_modules())
    return [
        MixingSite(
            name=name,
            module=type(modules[name]).__name__,
            future=name in leaks["future"],
            past=name in leaks["past"],
            largest=max(leak.get(name, 0.0) for leak in leaks.values()),
            leak=leaks["future"].get(name, 0.0) / size_of(base[name] if name else [Visit([], [base_output])]),
        )
        for name in [*base, ""]
        if any(name in leak for leak in leaks.values())
    ]


@torch.no_grad()
def first_leak(
    model: nn.Module, call: Callable[[Tensor], Tensor], latents: Tensor, changed: Tensor, kept: int | Tensor
) -> str | None:
    """The first module of a folded model that lets changed frames influence kept ones.

    First and leaf-most: the earliest module to complete whose output differs at kept frames although its inputs
    there do not. Comparisons are exact (any difference at all).

    Args:
        model: Every module works on tensors whose leading axis is (b t ...), b slow, then t, then anything; a tensor
            that is not folded so is compared as one.
        call: Runs the model on latents and returns its output (b t c h w); called with `latents` itself, then with
            `changed` itself.
        latents: (b t c h w) of any dtype.
        changed: The same.
        kept: (b t) bool, the frames on which both are equal; a number t: frames 0 ... t.

    Returns:
        Its path; "" if no module does but the output differs; None if nothing leaks.
    """
    b, frames = latents.shape[:2]
    if isinstance(kept, int):
        kept = (torch.arange(frames) <= kept).expand(b, -1)
    entries = kept.to(latents.device)

    def of_kept(x: Tensor) -> Tensor:
        folded = x.numel() > 0 and x.ndim > 0 and x.shape[0] % (b * frames) == 0
        return x.reshape(b, frames, -1)[entries] if folded else x

    def same(before: list[Tensor], now: list[Tensor]) -> bool:
        return len(before) == len(now) and all(
            torch.equal(of_kept(x), of_kept(y)) for x, y in zip(before, now, strict=True)
        )

    base, base_output = record(model, partial(call, latents))
    visits = {name: iter(recorded) for name, recorded in base.items()}
    leaking: list[str] = []

    def judge(name: str, now: Visit) -> None:
        before = next(visits.get(name, iter(())), None)
        if before and same(before.inputs, now.inputs) and not same(before.outputs, now.outputs):
            leaking.append(name)

    with watched(model, judge):
        output = call(changed)
    if leaking:
        return leaking[0]
    return None if same([base_output.flatten(0, 1)], [output.flatten(0, 1)]) else ""


# --------------------------------------------------------------------------------------------------- two runs compared


@dataclass(frozen=True)
class Visit:
    """One call of one module.

    Attributes:
        inputs: The tensors that it received.
        outputs: The tensors that it returned.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]


Recording = dict[str, list[Visit]]  # module -> its visits; modules in order of first completion


@contextmanager
def watched(model: nn.Module, watch: Callable[[str, Visit], list[Tensor] | None]) -> Iterator[None]:
    """Call `watch(name, visit)` whenever a module inside `model` completes; tensors it returns replace the outputs."""

    def hook(
        name: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object
    ) -> object:
        leaves, tree = tree_flatten(output)
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        replaced = watch(name, Visit(inputs, [x for x in leaves if isinstance(x, Tensor)]))
        if replaced is None:
            return None
        new = iter(replaced)
        return tree_unflatten([next(new) if isinstance(x, Tensor) else x for x in leaves], tree)

    handles = [
        module.register_forward_hook(partial(hook, name), with_kwargs=True)
        for name, module in model.named_modules()
        if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def record(model: nn.Module, run: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
    """Every module's inputs and outputs during `run`, copied (a later layer may write in place), and run's result.

    What one module passes to another is copied once, unless it is written into in between.
    """
    recording: Recording = {}
    copies: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}  # by identity, while the original lives

    def copied(x: Tensor) -> Tensor:
        original, version, copy = copies.get(id(x), (None, 0, x))
        if original is None or original() is not x or version != x._version:
            copy = x.clone()
            copies[id(x)] = (weakref.ref(x), x._version, copy)
        return copy

    def keep(name: str, now: Visit) -> None:
        visit = Visit([copied(x) for x in now.inputs], [copied(x) for x in now.outputs])
        recording.setdefault(name, []).append(visit)

    with watched(model, keep):
        output = run()
    return recording, output.clone()


def run_repaired(
    model: nn.Module, run: Callable[[], Tensor], base: Recording, every: Recording
) -> tuple[Tensor, dict[str, float]]:
    """Run with one frame changed, undoing changes at other frames.

    Returns:
        The result, and the largest such change of each site.
    """
    visits = {name: zip(base[name], every[name], strict=False) for name in base}
    largest: dict[str, float] = {}

    def repair(name: str, now: Visit) -> list[Tensor] | None:
        before, all_changed = next(visits.get(name, iter(())), (None, None))
        if before is None or all_changed is None:
            return None
        strays = stray_changes(before, all_changed, now)
        if not any(stray.any() for stray in strays):
            return None
        for old, new, stray in zip(before.outputs, now.outputs, strays, strict=True):
            if stray.any():
                change = float((new[stray].double() - old[stray].double()).abs().max())
                largest[name] = max(change, largest.get(name, 0.0))
        return [
            torch.where(s, old, new) for s, old, new in zip(strays, before.outputs, now.outputs, strict=True)
        ]

    with watched(model, repair):
        return run(), largest


def stray_changes(base: Visit, every: Visit, now: Visit) -> list[Tensor]:
    """For each output, which elements changed although they do not belong to the changed frame (bool, its shape).

    Empty if the module cannot be judged: an input changed in every frame (something before it, in the same forward,
    has mixed), or sizes depend on values.
    """
    if not shapes(base) == shapes(every) == shapes(now):
        return []
    inputs = zip(base.inputs, every.inputs, now.inputs, strict=True)
    found = [frame_entries(old, all_new, new) for old, all_new, new in inputs if (old != new).any()]
    known = [entries for entries in found if entries is not None]
    if len(known) < len(found):
        return []

    strays = []
    for old, all_new, new in zip(base.outputs, every.outputs, now.outputs, strict=True):
        stray = old != new
        fitting = [(axis, mine) for axis, mine in known if old.ndim > axis and old.shape[axis] == len(mine)]
        for axis, mine in fitting:
            stray &= ~mine.reshape([-1 if a == axis else 1 for a in range(old.ndim)])
        if stray.any() and not fitting and frame_entries(old, all_new, new) is not None:
            stray.fill_(False)  # the frames moved to another axis, and are still separate there
        strays.append(stray)
    return strays


def size_of(visits: list[Visit]) -> float:
    """The largest absolute value of the outputs; 1 where all are zero."""
    sizes = [
        float(x.abs().max()) for visit in visits for x in visit.outputs if x.is_floating_point() and x.numel()
    ]
    return max(sizes, default=0.0) or 1.0


def shapes(visit: Visit) -> list[torch.Size]:
    """Of all inputs and outputs."""
    return [x.shape for x in (*visit.inputs, *visit.outputs)]


def frame_entries(old: Tensor, every: Tensor, one: Tensor) -> tuple[int, Tensor] | None:
    """Where the changed frame lies in a tensor.

    Along the axis of the frames, one frame changes less than all frames do; along channels both change the same, even
    where other channels are concatenated.

    Args:
        old: The tensor in the unchanged run.
        every: With every frame changed.
        one: With one frame changed.

    Returns:
        The axis, and the frame's entries on it (bool); None if there is no such axis: all frames share what one changed.
    """
    candidates = []
    for axis, size in enumerate(old.shape):
        by_one, by_every = ((old != new).movedim(axis, 0).reshape(size, -1).any(1) for new in (one, every))
        if not torch.equal(by_one, by_every):
            candidates.append((axis, by_one))
    return min(candidates, key=lambda candidate: int(candidate[1].sum()) / len(candidate[1]), default=None)

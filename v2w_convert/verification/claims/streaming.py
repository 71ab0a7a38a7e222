"""Streaming, block by block or in chunks, gives the same output as one pass over the whole clip."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, repeat
from typing import NamedTuple

import torch
from torch import Tensor

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import Visit, watched
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec, nan_max
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import (
    Inputs,
    enough_frames,
    pictures,
    random_inputs,
    slice_of,
)
from v2w_convert.verification.engine.manners import FAR, UNIFORM, clips_in_manners, other_sizes
from v2w_convert.verification.engine.phases import WORLD_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import advise_against, fix_rules
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64
LONG = 48  # blocks, of which most are one chunk
BATCH = 9  # clips
LARGE = 30.0  # times a latent
MAX_WINDOW = (
    16  # blocks: up to here, the clip has three windows, so that ring buffers are overwritten twice; else two
)

BY_BLOCK = ClaimSpec(
    "stream-by-block",
    "streaming",
    "Streaming block by block gives the same output as one pass over the whole clip",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)
IN_CHUNKS = ClaimSpec(
    "stream-in-chunks",
    "streaming",
    "Streaming in chunks of mixed sizes gives the same output as one pass over the whole clip",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)


def clip_blocks(resolved: ResolvedPlan, brief: bool = False) -> int:
    """Return the number of blocks of the clip: several windows, and a few more."""
    window = _window_blocks(resolved)
    if brief:
        return window + 5
    return (3 if window <= MAX_WINDOW else 2) * window + 4


def _window_blocks(resolved: ResolvedPlan) -> int:
    """Blocks in the window; three if there is no window."""
    return 3 if resolved.window is None else resolved.window // resolved.frames_per_block


class StreamTrial(NamedTuple):
    """A clip, and the chunks in which it is streamed.

    Attributes:
        inputs: Arguments of `World.forward`, without `offset`.
        sizes: Frames of each chunk.
        draft_every: Other frames, and the chunk's own uncommitted, run before every so many chunks.
        far: The number of the chunk before which the stream's cursor is set far ahead; None: it is not.
    """

    inputs: Inputs
    sizes: list[int]
    draft_every: int
    far: int | None = None


def choose_trials(world: World, brief: bool = False) -> dict[ClaimSpec, list[StreamTrial]]:
    """Return the trials of both claims. The first of each is long: every ring buffer is overwritten.

    Args:
        world: The world model.
        brief: True for a large model: past the window once, and uncommitted passes before every fourth chunk only.
    """
    n, window = world.frames_per_block, _window_blocks(world.resolved)
    blocks = max(clip_blocks(world.resolved, brief), enough_frames(world) // n)
    inputs = clips_for_stream(world, 2, blocks)
    draft_every = 4 if brief else 2
    far = None
    if blocks > 2 * window + 2 and far_ahead(world):
        far = 2 * window + 2
        for name in pictures(world):  # the last one holds for all frames after it, however many
            inputs[name] = inputs[name][:, : far * n]
    trials = {
        BY_BLOCK: [StreamTrial(inputs, [n] * blocks, draft_every, far)],
        IN_CHUNKS: [
            StreamTrial(inputs, [n * size for size in mixed_sizes(blocks, window, brief)], draft_every)
        ],
    }
    if not brief:
        more: list[tuple[int, int, list[int], tuple[int, int] | None]] = [
            (1, LONG, [2, LONG - 5, 1, 2], None),
            (BATCH, 3, [1, 2], None),
        ]
        more += [(1, 3, [1, 2], size) for size in other_sizes(world)[-1:]]
        for b, t, sizes, size in more:
            trials[IN_CHUNKS].append(
                StreamTrial(clips_for_stream(world, b, t, size), [n * size for size in sizes], len(sizes))
            )
    last = 3 if brief else 2  # blocks: of a large model, no other chunk is of three
    bare = clips_in_manners(world, [UNIFORM[3]], (1 + last) * n, 0)
    trials[IN_CHUNKS].append(StreamTrial(bare, [n, last * n], 2))
    return trials


def clips_for_stream(world: World, b: int, blocks: int, size: tuple[int, int] | None = None) -> Inputs:
    """Return clips in which blocks of several kinds follow each other, of each kind in all clips at once.

    There are clean blocks, blocks of the largest level, and others; blocks whose actions are all dropped, or none; blocks
    of large latents.

    Args:
        world: The world model.
        b: Clips.
        blocks: Their length.
        size: h and w of the latents; None: `latent_size`.
    """
    n, generator = world.frames_per_block, torch.Generator().manual_seed(2)
    block = torch.arange(blocks)
    level = world.noise.sample_training_levels((b, blocks), generator)
    level = torch.where(block % 5 == 1, world.noise.history_level, level)
    level = torch.where(block % 5 == 2, 0.0, level)
    level = torch.where(block % 5 == 3, world.noise.max_level, level)
    dropped = ((torch.arange(b)[:, None] + torch.arange(blocks * n)) % 2 == 1).unflatten(1, (blocks, n))
    dropped = torch.where((block % 3 == 1)[:, None], False, dropped)
    dropped = torch.where((block % 3 == 2)[:, None], True, dropped).flatten(1)
    inputs = random_inputs(
        world, b, blocks * n, 0, size=size, level=level.repeat_interleave(n, 1), dropped=dropped
    )
    scale = torch.where(block % 7 == 3, LARGE, 1.0).repeat_interleave(n)
    inputs["latents"] = inputs["latents"] * scale.to(inputs["latents"])[:, None, None, None]
    return inputs


def far_ahead(world: World) -> int:
    """Return by how many blocks a stream's cursor can be moved so that nothing else should change; 0 if there is none.

    Ring buffers lie as before, and positions begin again.
    """
    n, operations = world.frames_per_block, world.resolved.sites.values()
    if world.resolved.window is None and any(operation.ring_states for operation in operations):
        return 0
    slots = {
        max(window.frames // n - 1, 1)
        for operation in operations
        if (window := operation.attention_window) is not None and window.frames is not None
    }
    once = math.lcm(*slots, world.resolved.period or 1)
    return -(-FAR // once) * once


def measure_streaming(world: World, brief: bool = False) -> list[Claim]:
    """Stream past the window several times, so that every ring buffer has been overwritten; and other clips.

    Args:
        world: The world model, float64.
        brief: As in `choose_trials`.
    """
    n = world.frames_per_block
    manners = {
        BY_BLOCK: "frame by frame" if n == 1 else "block by block",
        IN_CHUNKS: "in chunks of mixed sizes",
    }
    trials = choose_trials(world, brief)
    first = trials[BY_BLOCK][0].inputs
    expected = world(**first)  # of both
    return [_measure(world, each, expected, spec, manners[spec]) for spec, each in trials.items()]


def mixed_sizes(t: int, window: int, brief: bool = False) -> list[int]:
    """Return sizes that add up to t: a few blocks, then more than a window at once, then few again.

    Args:
        t: Their sum.
        window: Blocks in the window.
        brief: True so that `window + 5` blocks hold every kind of chunk that reads a state.
    """
    sizes: list[int] = []
    for size in chain((1, 2, window + 1, 1) if brief else (2, window + 1, 1, 2), repeat(3)):
        if sum(sizes) == t:
            break
        sizes.append(min(size, t - sum(sizes)))
    return sizes


def _measure(
    world: World, trials: list[StreamTrial], first_expected: Tensor, spec: ClaimSpec, manner: str
) -> Claim:
    measured: list[float] = []
    where, passes = "", ""
    for number, trial in enumerate(trials):
        expected = world(**trial.inputs) if number else first_expected
        outputs = _stream(world, trial)
        largest = float(expected.abs().max())
        differences = {commit: max_abs_diff(x, expected) / largest for commit, x in outputs.items()}
        measured += differences.values()
        broken = [commit for commit in (True, False) if not differences[commit] <= ALLOWED]
        if broken:
            where = _blame(world, trial, broken[0], outputs[broken[0]], expected)
            names = {True: "committed", False: "uncommitted"}
            passes = "".join(f"; broken in {names[commit]} passes" for commit in broken)
            if number:
                passes = f"; found with the {'second third fourth fifth sixth'.split()[number - 1]} of these{passes}"
            break
    b, t = first_expected.shape[:2]
    window = "no window" if world.resolved.window is None else f"a window of {world.resolved.window}"
    chunk = "second chunk" if trials[0].draft_every == 2 else f"{trials[0].draft_every}th chunk"
    how = (
        f"largest difference over the output's largest value, {t} frames, {window}, "
        f"{b} {'clip' if b == 1 else 'clips'}; clean frames, the largest level and others; latents × {LARGE:g}; all actions "
        f"dropped, some and none"
    )
    if trials[0].far:
        how += f"; after {sum(trials[0].sizes[: trials[0].far])} frames, {far_ahead(world)} blocks further in the stream"
    for trial in trials[1:]:
        b, t, _, h, w = trial.inputs["latents"].shape
        how += f"; {t} frames of {h} × {w}, {b} {'clip' if b == 1 else 'clips'}"
        how += "" if "actions" in trial.inputs else ", no actions or conditions"
    return spec.result(
        nan_max(measured),
        allowed=ALLOWED,
        where=where,
        how=f"{how}; before every {chunk} is committed, other frames run without a commit, or are committed to a branch that "
        "is dropped, and its own frames run without a commit; float64; zero-initialised layers randomised"
        + passes,
        sentence=f"Streaming {manner} gives the same output as one pass over the whole clip",
    )


def _stream(
    world: World, trial: StreamTrial, notes: dict[bool, "CallSums"] | None = None
) -> dict[bool, Tensor]:
    """The outputs of committed passes, and of uncommitted ones (b t c h w).

    Each chunk runs three times: other frames, which must leave no trace in the stream state, whether they are not
    committed or committed to a branch that is dropped; its own frames, not committed; its own frames, committed. The
    first two run before every `draft_every`-th chunk only.
    """
    inputs = trial.inputs
    b, t, _, h, w = inputs["latents"].shape
    state = world.empty_state(b, h, w, window=None if world.resolved.window else t)
    others = random_inputs(world, b, t, seed=1, size=(h, w))
    outputs: dict[bool, list[Tensor]] = {False: [], True: []}
    start = 0
    for number, size in enumerate(trial.sizes):
        stop = start + size
        if number == trial.far:
            state = state._replace(cursor=state.cursor + far_ahead(world))
        own = _as_called(slice_of(inputs, start, stop, world), number)
        with_draft = number % trial.draft_every == 0
        if with_draft:
            world.forward_streamed(
                state, **slice_of(others, start, stop, world), commit=number // trial.draft_every % 2 == 1
            )
            with record_sums(world, notes[False]) if notes and False in notes else nullcontext():
                draft, state = world.forward_streamed(state, **own, commit=False)
        with record_sums(world, notes[True]) if notes and True in notes else nullcontext():
            output, state = world.forward_streamed(state, **own, commit=True)
        outputs[False].append(draft if with_draft else output)
        outputs[True].append(output)
        start = stop
    return {commit: torch.cat(chunks, 1) for commit, chunks in outputs.items()}


def _as_called(chunk: Inputs, number: int) -> Inputs:
    """Of every second chunk, leave out actions that are all dropped, and marks where none is."""
    if number % 2 and "dropped" in chunk:
        if bool(chunk["dropped"].all()):
            return {kind: x for kind, x in chunk.items() if kind not in ("actions", "dropped")}
        if not bool(chunk["dropped"].any()):
            return {kind: x for kind, x in chunk.items() if kind != "dropped"}
    return chunk


def _blame(world: World, trial: StreamTrial, commit: bool, output: Tensor, expected: Tensor) -> str:
    """The first module at which a stream differs from one pass over the clip; both run again up to that frame."""
    close = (output - expected).abs() <= ALLOWED * expected.abs().max()  # false for NaN
    first = int((~close.flatten(2).all(2).all(0)).nonzero()[0])
    until = next(number for number in range(len(trial.sizes)) if sum(trial.sizes[: number + 1]) > first)
    whole, streamed = CallSums(), {commit: CallSums()}
    with record_sums(world, whole):
        world(**trial.inputs)
    _stream(world, trial._replace(sizes=trial.sizes[: until + 1], draft_every=1), streamed)
    return first_difference(whole, streamed[commit]) or MODEL_FORWARD


Sums = dict[int, Tensor]  # index of a tensor -> for each block: two sums, and of how many rows (b t 3)


class CallSums(dict[tuple[str, int], list[tuple[Sums, Sums]]]):
    """(module, index of its call in a pass) -> for each pass, sums of its inputs and of its outputs."""


@contextmanager
def record_sums(world: World, sums: CallSums) -> Iterator[None]:
    """Add one pass to `sums`. Tensors that are not folded, ((b t) …), are left out."""
    calls: Counter[str] = Counter()
    any_site = next(iter(world.sites.values()))

    def summed(tensors: list[Tensor]) -> Sums:
        b, t = any_site.context.b, any_site.context.t
        found = {}
        for index, x in enumerate(tensors):
            if x.ndim and x.numel() and x.shape[0] % (b * t) == 0:
                values = x.detach().to(torch.float64).reshape(b, t, -1)
                rows = torch.full((b, t), float(x.shape[0] // (b * t)), dtype=torch.float64)
                found[index] = torch.stack([values.abs().sum(2).cpu(), (values**2).sum(2).cpu(), rows], 2)
        return found

    def note(name: str, visit: Visit) -> None:
        sums.setdefault((name, calls[name]), []).append((summed(visit.inputs), summed(visit.outputs)))
        calls[name] += 1

    with watched(world.base, note):
        yield


def first_difference(whole: CallSums, streamed: CallSums, rounding: float = 1e-8) -> str:
    """Return the module whose outputs differ at a block up to which its inputs are the same; "" if there is none.

    Of several, it is that of the earliest such block, and there the first to complete. Sums that differ by no more than
    `rounding`, relatively, are the same.
    """
    earliest: int | None = None
    found = ""
    for call, (one_pass,) in whole.items():
        passes = streamed.get(call, [])
        inputs, outputs = (
            _first_different_block(sums, [each[side] for each in passes], rounding)
            for side, sums in enumerate(one_pass)
        )
        if outputs is None or (inputs is not None and inputs <= outputs):
            continue
        if earliest is None or outputs < earliest:
            earliest, found = outputs, call[0]
    return found


def _first_different_block(whole: Sums, passes: list[Sums], rounding: float) -> int | None:
    """The first block whose sums differ, of the tensors that are folded in every pass."""
    first = []
    for index, sums in whole.items():
        if not passes or not all(index in each for each in passes):
            continue
        streamed = torch.cat([each[index] for each in passes], 1)
        if not bool((streamed[..., 2] == sums[0, 0, 2]).all()):
            continue  # a table whose number of rows happens to be a multiple of the frames
        different = ~torch.isclose(sums[:, : streamed.shape[1]], streamed, rtol=rounding, atol=1e-12)
        first += different.any(2).any(0).nonzero().flatten().tolist()[:1]
    return min(first, default=None)


def _cost(context: VerifyContext) -> Cost:
    frames_per_block = context.resolved.frames_per_block
    frames = (2.8 if context.large else 8) * clip_blocks(context.resolved, context.large) * frames_per_block
    return Cost(passes=frames / 7, reads=0.3 * frames + 5)


CHECKS = (
    Check(
        "streaming",
        (BY_BLOCK, IN_CHUNKS),
        WORLD_RANDOMIZED,
        lambda c: measure_streaming(c.world, c.large),
        _cost,
        not_if_large="streams longer than a window and a few blocks, long chunks, batches of 8, other sizes",
    ),
)

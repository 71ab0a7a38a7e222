"""Streaming, block by block or in chunks, gives the same output as one pass over the whole clip."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, repeat

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
    latent_size,
    random_inputs,
    slice_of,
)
from v2w_convert.verification.engine.phases import WORLD_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import advise_against, fix_rules
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64
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
        return window + 3
    return (3 if window <= MAX_WINDOW else 2) * window + 4


def _window_blocks(resolved: ResolvedPlan) -> int:
    """Blocks in the window; three if there is no window."""
    return 3 if resolved.window is None else resolved.window // resolved.frames_per_block


def measure_streaming(world: World, brief: bool = False) -> list[Claim]:
    """Stream past the window several times, so that every ring buffer has been overwritten.

    Args:
        world: The world model, float64.
        brief: True for a large model: past the window once, one clip, and uncommitted passes before every fourth
            chunk only.
    """
    n, window = world.frames_per_block, _window_blocks(world.resolved)
    blocks = max(clip_blocks(world.resolved, brief), enough_frames(world) // n)
    inputs = random_inputs(world, 1 if brief else 2, blocks * n, seed=0)
    expected = world(**inputs)
    draft_every = 4 if brief else 1
    return [
        _measure(world, inputs, expected, [n * size for size in sizes], draft_every, spec, manner)
        for spec, manner, sizes in (
            (BY_BLOCK, "frame by frame" if n == 1 else "block by block", [1] * blocks),
            (IN_CHUNKS, "in chunks of mixed sizes", mixed_sizes(blocks, window)),
        )
    ]


def mixed_sizes(t: int, window: int) -> list[int]:
    """Return sizes that add up to t: a few blocks, then more than a window at once, then few again."""
    sizes: list[int] = []
    for size in chain((2, window + 1, 1, 2), repeat(3)):
        if sum(sizes) == t:
            break
        sizes.append(min(size, t - sum(sizes)))
    return sizes


def _measure(
    world: World,
    inputs: Inputs,
    expected: Tensor,
    sizes: list[int],
    draft_every: int,
    spec: ClaimSpec,
    manner: str,
) -> Claim:
    b, t = expected.shape[:2]
    outputs = _stream(world, inputs, sizes, draft_every)
    differences = {
        commit: max_abs_diff(output, expected) / float(expected.abs().max())
        for commit, output in outputs.items()
    }
    broken = [commit for commit in (True, False) if not differences[commit] <= ALLOWED]
    where = ""
    if broken:
        where = _blame(world, inputs, sizes, draft_every, broken[0], outputs[broken[0]], expected)
    names = {True: "committed", False: "uncommitted"}
    window = "no window" if world.resolved.window is None else f"a window of {world.resolved.window}"
    chunk = "chunk" if draft_every == 1 else f"{draft_every}th chunk"
    return spec.result(
        nan_max(differences.values()),
        allowed=ALLOWED,
        where=where,
        how=f"largest difference over the output's largest value, {t} frames, {window}, "
        f"{b} {'clip' if b == 1 else 'clips'}; before each {chunk} is committed, other frames run without a commit, or "
        "are committed to a branch that is dropped, and its own frames run without a commit; float64; zero-initialised "
        "layers randomised" + "".join(f"; broken in {names[commit]} passes" for commit in broken),
        sentence=f"Streaming {manner} gives the same output as one pass over the whole clip",
    )


def _stream(
    world: World,
    inputs: Inputs,
    sizes: list[int],
    draft_every: int,
    notes: dict[bool, "CallSums"] | None = None,
) -> dict[bool, Tensor]:
    """The outputs of committed passes, and of uncommitted ones (b t c h w).

    Each chunk runs three times: other frames, which must leave no trace in the stream state, whether they are not
    committed or committed to a branch that is dropped; its own frames, not committed; its own frames, committed. The
    first two run before every `draft_every`-th chunk only.
    """
    b, t = inputs["latents"].shape[:2]
    state = world.empty_state(b, *latent_size(world), window=None if world.resolved.window else t)
    others = random_inputs(world, b, t, seed=1)
    outputs: dict[bool, list[Tensor]] = {False: [], True: []}
    start = 0
    for number, size in enumerate(sizes):
        stop = start + size
        with_draft = number % draft_every == 0
        if with_draft:
            world.forward_streamed(state, **slice_of(others, start, stop, world), commit=number % 2 == 1)
            with record_sums(world, notes[False]) if notes and False in notes else nullcontext():
                draft, state = world.forward_streamed(
                    state, **slice_of(inputs, start, stop, world), commit=False
                )
        with record_sums(world, notes[True]) if notes and True in notes else nullcontext():
            output, state = world.forward_streamed(state, **slice_of(inputs, start, stop, world), commit=True)
        outputs[False].append(draft if with_draft else output)
        outputs[True].append(output)
        start = stop
    return {commit: torch.cat(chunks, 1) for commit, chunks in outputs.items()}


def _blame(
    world: World,
    inputs: Inputs,
    sizes: list[int],
    draft_every: int,
    commit: bool,
    output: Tensor,
    expected: Tensor,
) -> str:
    """The first module at which a stream differs from one pass over the clip; both run again up to that frame."""
    close = (output - expected).abs() <= ALLOWED * expected.abs().max()  # false for NaN
    first = int((~close.flatten(2).all(2).all(0)).nonzero()[0])
    until = next(number for number in range(len(sizes)) if sum(sizes[: number + 1]) > first)
    whole, streamed = CallSums(), {commit: CallSums()}
    with record_sums(world, whole):
        world(**inputs)
    _stream(world, inputs, sizes[: until + 1], draft_every, streamed)
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
    frames = (1.4 if context.large else 7) * clip_blocks(context.resolved, context.large) * frames_per_block
    return Cost(passes=frames / 7, reads=0.3 * frames)


CHECKS = (
    Check(
        "streaming",
        (BY_BLOCK, IN_CHUNKS),
        WORLD_RANDOMIZED,
        lambda c: measure_streaming(c.world, c.large),
        _cost,
    ),
)

"""A stream, block by block or in chunks, gives what one pass over the whole clip gives."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, repeat

import torch
from torch import Tensor

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import Visit, watched
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, nan_max
from v2w_convert.verification.engine.inputs import Inputs, enough_frames, latent_size, random_inputs, slice_of
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64
AFFORDABLE = 16  # blocks in view, or fewer: then rings are overwritten three times, else twice


def blocks_of(resolved: ResolvedPlan, brief: bool = False) -> int:
    """How many blocks the clip has: so many windows, and a few more."""
    view = _view(resolved)
    if brief:
        return view + 3
    return (3 if view <= AFFORDABLE else 2) * view + 4


def _view(resolved: ResolvedPlan) -> int:
    """Blocks in view at once; three where all are."""
    return 3 if resolved.window is None else resolved.window // resolved.frames_per_block


def streaming(world: World, brief: bool = False) -> list[Claim]:
    """Past the window several times, so that every ring buffer has been overwritten. `world` is float64.

    brief  for a large model: past the window once, one clip, and uncommitted passes before every fourth chunk only
    """
    n, view = world.frames_per_block, _view(world.resolved)
    blocks = max(blocks_of(world.resolved, brief), enough_frames(world) // n)
    inputs = random_inputs(world, 1 if brief else 2, blocks * n, seed=0)
    expected = world(**inputs)
    sizes = {
        "streamed-by-block": ("frame by frame" if n == 1 else "block by block", [1] * blocks),
        "streamed-in-chunks": ("in chunks of mixed sizes", mixed_sizes(blocks, view)),
    }
    return [
        _claim(world, inputs, expected, [n * size for size in chunks], name, manner, 4 if brief else 1)
        for name, (manner, chunks) in sizes.items()
    ]


def mixed_sizes(t: int, window: int) -> list[int]:
    """Sizes that add up to t: a few blocks, more than a window at once, and few again, each with a past, too."""
    sizes: list[int] = []
    for size in chain((2, window + 1, 1, 2), repeat(3)):
        if sum(sizes) == t:
            break
        sizes.append(min(size, t - sum(sizes)))
    return sizes


def _claim(
    world: World, inputs: Inputs, expected: Tensor, sizes: list[int], name: str, manner: str, rest: int
) -> Claim:
    b, t = expected.shape[:2]
    made = _streamed(world, inputs, sizes, rest)
    far = {
        commit: max_abs_diff(output, expected) / float(expected.abs().max())
        for commit, output in made.items()
    }
    broken = [commit for commit in (True, False) if not far[commit] <= ALLOWED]
    passes = {True: "committed", False: "uncommitted"}
    return Claim(
        name,
        nan_max(far.values()),
        ALLOWED,
        _blamed(world, inputs, sizes, rest, broken[0], made[broken[0]], expected) if broken else "",
        f"largest difference over the output's largest value, {t} frames, window {world.resolved.window}, "
        f"{b} {'clip' if b == 1 else 'clips'}; before each {'chunk' if rest == 1 else f'{rest}th chunk'} is committed, "
        "other frames are, to a branch that is dropped, or are not, and its own are not; float64; zero layers woken"
        + "".join(f"; broken in {passes[commit]} passes" for commit in broken),
        claim=f"Streamed {manner}, the output is that of one pass over the whole clip",
    )


def _streamed(
    world: World, inputs: Inputs, sizes: list[int], rest: int, notes: dict[bool, "Notes"] | None = None
) -> dict[bool, Tensor]:
    """The outputs of passes that are committed, and of the same that are not.

    Each chunk three times: other frames, which must leave no trace in the stream, be they not committed or committed
    to a branch that is dropped; its own, not committed; its own, committed. The former two before each `rest`-th only.
    """
    b, t = inputs["latents"].shape[:2]
    state = world.empty_state(b, *latent_size(world), window=None if world.resolved.window else t)
    others = random_inputs(world, b, t, seed=1)
    outputs: dict[bool, list[Tensor]] = {False: [], True: []}
    start = 0
    for number, size in enumerate(sizes):
        stop = start + size
        drafts = number % rest == 0
        if drafts:
            world.forward_streamed(state, **slice_of(others, start, stop), commit=number % 2 == 1)
            with noted(world, notes[False]) if notes and False in notes else nullcontext():
                draft, state = world.forward_streamed(state, **slice_of(inputs, start, stop), commit=False)
        with noted(world, notes[True]) if notes and True in notes else nullcontext():
            output, state = world.forward_streamed(state, **slice_of(inputs, start, stop), commit=True)
        outputs[False].append(draft if drafts else output)
        outputs[True].append(output)
        start = stop
    return {commit: torch.cat(made, 1) for commit, made in outputs.items()}


def _blamed(
    world: World, inputs: Inputs, sizes: list[int], rest: int, commit: bool, made: Tensor, expected: Tensor
) -> str:
    """The module at which a stream and one pass over the clip part, by running both again until they have."""
    close = (made - expected).abs() <= ALLOWED * expected.abs().max()  # false for NaN
    first = int((~close.flatten(2).all(2).all(0)).nonzero()[0])
    until = next(number for number in range(len(sizes)) if sum(sizes[: number + 1]) > first)
    whole, streamed = Notes(), {commit: Notes()}
    with noted(world, whole):
        world(**inputs)
    _streamed(world, inputs, sizes[: until + 1], rest, streamed)
    return first_difference(whole, streamed[commit]) or MODEL_FORWARD


Sums = dict[int, Tensor]  # how many-th tensor -> for each block two sums, and of how many rows (b t 3)


class Notes(dict[tuple[str, int], list[tuple[Sums, Sums]]]):
    """(module, how many-th call of it in a pass) -> of its inputs and of its outputs, pass by pass."""


@contextmanager
def noted(world: World, notes: Notes) -> Iterator[None]:
    """Add a pass to `notes`, behind those that are there. What is not folded, ((b t) …), is passed over."""
    calls: Counter[str] = Counter()
    told = next(iter(world.sites.values()))

    def summed(tensors: list[Tensor]) -> Sums:
        b, t = told.context.b, told.context.t
        found = {}
        for number, x in enumerate(tensors):
            if x.ndim and x.numel() and x.shape[0] % (b * t) == 0:
                values = x.detach().to(torch.float64).reshape(b, t, -1)
                rows = torch.full((b, t), float(x.shape[0] // (b * t)), dtype=torch.float64)
                sums = [values.abs().sum(2).cpu(), (values**2).sum(2).cpu(), rows]
                found[number] = torch.stack(sums, 2)
        return found

    def note(name: str, visit: Visit) -> None:
        notes.setdefault((name, calls[name]), []).append((summed(visit.inputs), summed(visit.outputs)))
        calls[name] += 1

    with watched(world.base, note):
        yield


def first_difference(whole: Notes, streamed: Notes) -> str:
    """The module that gives something else, at a block up to which it was given the same: that of the earliest such
    block, and there the first to complete. "" if there is none.
    """
    earliest, found = None, ""
    for call, (mine,) in whole.items():
        parts = streamed.get(call, [])
        given, made = (_first_apart(sums, [part[side] for part in parts]) for side, sums in enumerate(mine))
        if made is None or (given is not None and given <= made):
            continue
        if earliest is None or made < earliest:
            earliest, found = made, call[0]
    return found


def _first_apart(whole: Sums, parts: list[Sums]) -> int | None:
    """The first block whose sums differ, of the tensors that are folded in every pass."""
    first = []
    for number, sums in whole.items():
        if not parts or not all(number in part for part in parts):
            continue
        there = torch.cat([part[number] for part in parts], 1)
        if not bool((there[..., 2] == sums[0, 0, 2]).all()):
            continue  # a table, whose rows happen to be as many as make a fold
        apart = ~torch.isclose(sums[:, : there.shape[1]], there, rtol=1e-8, atol=1e-12)
        first += apart.any(2).any(0).nonzero().flatten().tolist()[:1]
    return min(first, default=None)

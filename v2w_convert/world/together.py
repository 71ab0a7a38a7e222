"""Streams of their own, each as far as it has come, stepped in one batch: many rollouts share the passes of one model."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from v2w_convert.errors import V2WError
from v2w_convert.noise import Noise
from v2w_convert.sites import State
from v2w_convert.world.past import Past, join_pasts
from v2w_convert.world.rollout import SeededStream, Stream, StreamingModel, alike_pasts

TOLERANCE = 1e-3  # of the largest number: a batch adds in another order, in half precision as well


def step_together(streams: Sequence[Stream], actions: Tensor) -> Tensor:
    """Sample and commit the next block of each stream, all in one batch.

    Up to rounding, each stream is as if it were stepped alone. If this raises, no stream has changed.

    Args:
        streams: Of one world, size, sampling and names of conditions, b = 1 each; they may have seen different numbers
            of frames.
        actions: (m n a), the actions of each stream's block.

    Returns:
        The latents (m n c h w).

    Raises:
        V2WError: As `Stream.step_block`.
    """
    first = streams[0]
    generators = [stream.generator.get_state() for stream in streams]
    try:
        if len(streams) == 1:
            return first.step_block(actions)
        joined = _join(streams)
        frames = joined.step_block(actions)
    except BaseException:
        for stream, state in zip(streams, generators, strict=True):
            stream.generator.set_state(state)
        raise
    for i, stream in enumerate(streams):
        stream.past = _row(joined.past, i)
    return frames


def can_step_together(stream: Stream) -> bool:
    """Whether a model's streams can be stepped together at different numbers of frames, tried on one with some history.

    Some models branch on values or take one clip at a time; those are stepped one after the other.
    """
    before, after = stream.branch(), stream.branch()
    world = stream.world
    actions = torch.zeros(1, world.frames_per_block, _action_dim(world), device=world.device)
    for each in (before, after, after):
        each.step_block(actions)
    pair = [before.branch(), after.branch()]
    alone = torch.cat([each.step_block(actions) for each in (before, after)])
    try:
        together = step_together(pair, actions.repeat(2, 1, 1))
    except Exception:
        return False
    return bool((together - alone).abs().max() <= TOLERANCE * alone.abs().max())


class _ManyCursors:
    """A model whose stream state has a cursor (b,) of each row, called by `torch.vmap` over the rows."""

    def __init__(self, world: StreamingModel):
        self.world = world
        self.noise: Noise = world.noise
        self.frames_per_block = world.frames_per_block

    @property
    def channels(self) -> int:
        return self.world.channels

    @property
    def dtype(self) -> torch.dtype:
        return self.world.dtype

    @property
    def device(self) -> torch.device:
        return self.world.device

    def empty_state(self, b: int, h: int, w: int, window: int | None = None) -> State:
        raise NotImplementedError

    def clip_tokens(self, h: int, w: int, window: int | None = None) -> int:
        return self.world.clip_tokens(h, w, window)

    def forward_streamed(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        dropped: Tensor | None = None,
        *,
        commit: bool = False,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        given = {"latents": latents, "actions": actions, "dropped": dropped, **conditions}
        run = partial(self.world.forward_streamed, commit=commit)
        output, after = self._mapped(run, state, noise_level, given)
        return output, after if commit else state

    def forward_folded(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        given = {"latents": latents, "actions": actions, **conditions}
        return self._mapped(self.world.forward_folded, state, noise_level, given)

    def _mapped(
        self,
        run: Callable[..., tuple[Tensor, State]],
        state: State,
        noise_level: Tensor,
        given: dict[str, Tensor | None],
    ) -> tuple[Tensor, State]:
        # All rows are at one noise level, by which models of two experts choose: it is not mapped over.
        level = noise_level[:1]
        rows = {name: value for name, value in given.items() if value is not None}

        def one(state: State, row: dict[str, Tensor]) -> tuple[Tensor, State]:
            given = {name: value[None] for name, value in row.items()}
            kept = {site: {name: x[None] for name, x in own.items()} for site, own in state.sites.items()}
            output, after = run(State(state.cursor, kept), noise_level=level, **given)
            sites = {site: {name: x[0] for name, x in own.items()} for site, own in after.sites.items()}
            return output[0], State(after.cursor, sites)

        with sdpa_kernel(SDPBackend.MATH):  # the others are not mapped, but called row by row
            mapped: tuple[Tensor, State] = torch.vmap(one)(state, rows)
        return mapped


class _Joined(SeededStream):
    def _not_finite(self, frame: Tensor, actions: Tensor | None) -> V2WError:
        found = "a block is not finite"
        return V2WError(f"generate frames of {len(self.generators)} rollouts", found, "each of them alone")


def _join(streams: Sequence[Stream]) -> SeededStream:
    """One stream of all, with their generators."""
    first = streams[0]
    pasts = alike_pasts(streams)
    cursors = [own.state.cursor for own in pasts]
    same = len({int(cursor) for cursor in cursors}) == 1
    past = join_pasts(pasts).at(cursors[0] if same else torch.stack(cursors))
    conditions = {
        name: torch.cat([stream.conditions[name] for stream in streams]) for name in first.conditions
    }
    _, h, w = first.size
    world: StreamingModel = first.world if same else _ManyCursors(first.world)
    joined = _Joined(
        world,
        past.state,
        (len(streams), h, w),
        first.sampling,
        [0] * len(streams),
        conditions,
        first.tokens,
    )
    joined.past = past
    joined.generators = [stream.generator for stream in streams]
    return joined


def _row(past: Past, i: int) -> Past:
    """What one stream has seen, which does not keep the others' in memory."""
    cursor = past.state.cursor
    return past.rows([i]).at(cursor if cursor.ndim == 0 else cursor[i].clone())


def _action_dim(world: Any) -> int:
    found: int = world.action_dim
    return found

"""Autoregressive rollout: the next frame, or block of frames, from the past and from the action just taken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.noise import Noise
from v2w_convert.sites import State
from v2w_convert.world.finite import is_finite, origin
from v2w_convert.world.past import Past, SeenBlock, are_alike, join_pasts


class StreamingModel(Protocol):
    """What a rollout asks of a world model (`v2w_convert.world.model.World`)."""

    noise: Noise
    frames_per_block: int

    @property
    def channels(self) -> int:
        """Of a frame's latent."""

    @property
    def dtype(self) -> torch.dtype:
        """Of latents and actions."""

    @property
    def device(self) -> torch.device:
        """Of latents and actions."""

    def empty_state(self, b: int, h: int, w: int, window: int | None = None) -> State:
        """The state before the first frame."""

    def clip_tokens(self, h: int, w: int, window: int | None = None) -> int:
        """Latent tokens of a clip, by which some schedulers shift their noise levels."""

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
        """The prediction for frames that come after those in `state`, and the state after them."""

    def forward_folded(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        """The prediction for the last block, and the state after those before it."""


@dataclass(frozen=True)
class Sampling:
    """How a frame is sampled; printed with every figure that depends on it.

    Attributes:
        steps: Denoising steps per frame.
        guidance: s of `out = e_u + s (e_c - e_u)`; in the unconditional branch only the newest action is dropped
            (Vid2World, arXiv 2505.14357, section 4.2; its lambda is s - 1). 1: one branch only.
        context_noise: The level that history is noised to, in the noise kind's unit; 0: clean. None: the noise's
            `history_level`.
        history_guidance: r of `out = e_o + r (e_c - e_o)`, where e_o is predicted from another history: the same frames
            and actions, the frames noised to a larger level, of which the model is told (Song et al., arXiv
            2502.06764). 1: one history only. With action guidance, both differences are added to e_c: `out = e_c +
            (s - 1) (e_c - e_u) + (r - 1) (e_c - e_o)`, as that work adds the scores of several histories.
        history_guidance_noise: The level of the other history, in the noise kind's unit. None: the noise's `max_level`,
            at which nothing of it is left to see.
    """

    steps: int = 10
    guidance: float = 1.0
    context_noise: float | None = None
    history_guidance: float = 1.0
    history_guidance_noise: float | None = None


class Stream:
    """b rollouts side by side. Every frame costs the same: history is a State of fixed size.

    Holds only what was seen and a generator, so `branch` is cheap, and the world may serve many streams. A block that is
    finished waits, and the pass that begins the next one writes it into the state.

    Attributes:
        world: The model.
        past: What was seen so far.
        size: b, h, w.
        sampling: How frames are sampled.
        conditions: What the plan names, for every frame.
        tokens: Latent tokens of a clip, for the noise levels.
        generator: Of the noise, on the CPU.
    """

    def __init__(
        self,
        world: StreamingModel,
        state: State,
        size: tuple[int, int, int],
        sampling: Sampling,
        seed: int,
        conditions: dict[str, Any],
        tokens: int,
    ):
        self.world, self.sampling, self.conditions = world, sampling, conditions
        self.past = Past(state, other=None if sampling.history_guidance == 1 else Past(state))
        self.size, self.tokens = size, tokens
        self.generator = torch.Generator().manual_seed(seed)

    def branch(self, seed: int | None = None) -> "Stream":
        """Another stream with the same past. Same noise to come as well, unless `seed` is given."""
        twin = Stream(self.world, self.past.state, self.size, self.sampling, 0, self.conditions, self.tokens)
        twin.past = self.past
        if seed is None:
            twin.generator.set_state(self.generator.get_state())
        else:
            twin.generator.manual_seed(seed)
        return twin

    @property
    def state(self) -> State:
        """The stream state after all that was seen. A block that waits is written by a pass of its own.

        What is set has no other history beside it: such a stream is not guided by history.
        """
        self.past = self._written(self.past)
        return self.past.state

    @state.setter
    def state(self, state: State) -> None:
        self.past = Past(state)

    @torch.no_grad()
    def observe(self, latents: Tensor, actions: Tensor | None = None) -> None:
        """Commit observed frames, in whole blocks.

        Args:
            latents: (b t c h w).
            actions: (b t a), that led to each of them.
        """
        self.past = self._written(self._seen(latents, actions))

    def _seen(self, latents: Tensor, actions: Tensor | None) -> Past:
        """The past with these frames (b t c h w) after the actions (b t a), which wait in it."""
        past, waiting = self._written(self.past), self._as_history(latents, actions)
        other = past.other
        if other is not None:
            other = replace(other, waiting=self._as_other_history(latents, actions))
        return replace(past, waiting=waiting, other=other)

    def _as_history(self, latents: Tensor, actions: Tensor | None) -> SeenBlock:
        """Frames (b t c h w) after the actions (b t a), as the model is shown them."""
        given = self.sampling.context_noise
        return self._noised(latents, actions, self.world.noise.history_level if given is None else given)

    def _as_other_history(self, latents: Tensor, actions: Tensor | None) -> SeenBlock:
        """The same frames as the model is shown them for the prediction that history guidance leads away from."""
        given = self.sampling.history_guidance_noise
        return self._noised(latents, actions, self.world.noise.max_level if given is None else given)

    def _noised(self, latents: Tensor, actions: Tensor | None, to: float) -> SeenBlock:
        level = torch.full(latents.shape[:2], float(to), device=latents.device)
        latents = latents.to(self.world.dtype)
        if not is_finite(latents):
            raise V2WError(
                f"observe latent frame {self._next_frame}",
                "it has numbers that are not finite",
                "finite latents, actions and weights",
            )
        noisy = self.world.noise.add_noise(latents, self._noise(latents), level)
        return SeenBlock(noisy, level, self._cast(actions))

    @torch.no_grad()
    def _written(self, past: Past) -> Past:
        """The same past with nothing that waits: it is written by a pass of its own."""
        state, seen = past.state, past.waiting
        if seen is not None:
            _, state = self.world.forward_streamed(
                state, seen.latents, seen.level, seen.actions, commit=True, **self.conditions
            )
        return Past(state, other=None if past.other is None else self._written(past.other))

    @torch.no_grad()
    def step(self, action: Tensor | None = None) -> Tensor:
        """Sample and commit the next frame's latent (b c h w) after `action` (b a).

        Where a block has n > 1 frames: the next block's (b n c h w) after the actions (b n a).
        """
        if self.world.frames_per_block > 1:
            return self.step_block(action)
        return self.step_block(None if action is None else action[:, None])[:, 0]

    @torch.no_grad()
    def step_block(self, actions: Tensor | None = None) -> Tensor:
        """Sample and commit the next block's latents (b n c h w) after `actions` (b n a), whatever n is."""
        b, h, w = self.size
        world = self.world
        actions = self._cast(actions)
        frame = torch.empty(
            b, world.frames_per_block, world.channels, h, w, dtype=world.dtype, device=world.device
        )
        sampler = world.noise.sampler(self.sampling.steps, self.tokens)
        start = frame = sampler.start(self._noise(frame))
        for i, level in enumerate(sampler.levels[:-1].tolist()):
            now = torch.full((b, world.frames_per_block), level, device=world.device)
            frame = sampler.step(self._guided(frame, now, actions), frame, i)
        if not is_finite(frame):
            raise self._not_finite(start, actions)
        self.past = self._seen(frame, actions)
        return frame

    @property
    def _next_frame(self) -> int:
        return self.past.blocks * self.world.frames_per_block

    def _not_finite(self, frame: Tensor, actions: Tensor | None) -> V2WError:
        """What to say of a block that is not finite: its denoising, made again, is watched."""
        sampler = self.world.noise.sampler(self.sampling.steps, self.tokens)
        model: Any = getattr(self.world, "base", None)
        for i, level in enumerate(sampler.levels[:-1].tolist()):
            now = torch.full(frame.shape[:2], level, device=self.world.device)
            place = origin(model, partial(self._guided, frame, now, actions))
            frame = sampler.step(self._guided(frame, now, actions), frame, i)
            if not is_finite(frame):
                break
        if actions is not None and not is_finite(actions):
            place = "its action is"
        return V2WError(
            f"generate latent frame {self._next_frame}",
            f"at denoising step {i + 1}, of level {level:.4g}, {place} not finite",
            "weights without NaN or infinity, --dtype float32",
        )

    def _guided(self, frame: Tensor, level: Tensor, actions: Tensor | None) -> Tensor:
        """The model's output for the next block, led away from others; what waits in the past is written."""
        output, self.past = self._predicted(self.past, frame, level, actions)
        guided = output
        if self.sampling.guidance != 1 and actions is not None:
            dropped = torch.ones_like(level, dtype=torch.bool)
            without, self.past = self._predicted(self.past, frame, level, actions, dropped)
            guided = without + self.sampling.guidance * (output - without)
        if self.sampling.history_guidance != 1:
            guided = guided + (self.sampling.history_guidance - 1) * (
                output - self._from_other_history(frame, level, actions)
            )
        return guided

    def _from_other_history(self, frame: Tensor, level: Tensor, actions: Tensor | None) -> Tensor:
        """The model's output for the next block after the noised history."""
        if self.past.other is None:
            raise V2WError(
                "guide by history",
                "the frames before were seen without it",
                "a stream that begins with this sampling",
            )
        output, other = self._predicted(self.past.other, frame, level, actions)
        self.past = replace(self.past, other=other)
        return output

    def _predicted(
        self,
        past: Past,
        frame: Tensor,
        level: Tensor,
        actions: Tensor | None,
        dropped: Tensor | None = None,
    ) -> tuple[Tensor, Past]:
        """The model's output for the block after a past; the pass writes the block that waits there, if there is one."""
        seen = past.waiting
        if seen is not None and (actions is None) != (seen.actions is None):
            past, seen = self._written(past), None
        if seen is None:
            output, _ = self.world.forward_streamed(
                past.state, frame, level, actions, dropped, **self.conditions
            )
            return output, past
        latents, level = torch.cat([seen.latents, frame], 1), torch.cat([seen.level, level], 1)
        both = None if actions is None or seen.actions is None else torch.cat([seen.actions, actions], 1)
        output, state = self.world.forward_folded(past.state, latents, level, both, **self.conditions)
        return output, replace(past, state=state, waiting=None)

    def _cast(self, actions: Tensor | None) -> Tensor | None:
        return None if actions is None else actions.to(device=self.world.device, dtype=self.world.dtype)

    def _noise(self, like: Tensor) -> Tensor:
        # Sampled on the CPU in float32, so that a seed gives one rollout on every device.
        return torch.randn(like.shape, generator=self.generator).to(like)


class SeededStream(Stream):
    """Rollouts that each have a seed of their own: the same noise, whichever of them are generated together.

    Attributes:
        generators: Of each rollout's noise, on the CPU.
    """

    def __init__(
        self,
        world: StreamingModel,
        state: State,
        size: tuple[int, int, int],
        sampling: Sampling,
        seeds: Sequence[int],
        conditions: dict[str, Any],
        tokens: int,
    ):
        super().__init__(world, state, size, sampling, 0, conditions, tokens)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def branch(self, seed: int | None = None) -> "Stream":
        """As `Stream.branch`; with a `seed`, rollouts no longer have noise of their own."""
        if seed is not None:
            return super().branch(seed)
        return self._of(self.past, self.conditions, self.generators)

    def select(self, rows: Sequence[int]) -> "SeededStream":
        """Another stream of some of the rollouts, with their past and their noise to come; one may be there several times."""
        index = torch.tensor(rows, device=self.past.state.cursor.device)
        conditions = {name: value.index_select(0, index) for name, value in self.conditions.items()}
        return self._of(self.past.rows(rows), conditions, [self.generators[row] for row in rows])

    def _of(
        self, past: Past, conditions: dict[str, Any], generators: list[torch.Generator]
    ) -> "SeededStream":
        """Rollouts of the same model whose generators are copies of these."""
        b, (_, h, w) = len(generators), self.size
        twin = SeededStream(
            self.world, past.state, (b, h, w), self.sampling, [0] * b, conditions, self.tokens
        )
        twin.past = past
        for own, theirs in zip(twin.generators, generators, strict=True):
            own.set_state(theirs.get_state())
        return twin

    def _noise(self, like: Tensor) -> Tensor:
        rows = [torch.randn(like.shape[1:], generator=generator) for generator in self.generators]
        return torch.stack(rows).to(like)


def join_streams(streams: Sequence[SeededStream]) -> SeededStream:
    """One stream of the rollouts of several, in order, with copies of their generators.

    Args:
        streams: Of one model and size, which have all seen as many frames.

    Raises:
        V2WError: They have not.
    """
    first = streams[0]
    if len(streams) == 1:
        return first
    if len({stream.past.blocks for stream in streams}) > 1:
        raise V2WError("join rollouts", "they have not seen as many frames")
    conditions = {
        name: torch.cat([stream.conditions[name] for stream in streams]) for name in first.conditions
    }
    generators = [generator for stream in streams for generator in stream.generators]
    return first._of(join_pasts(alike_pasts(streams)), conditions, generators)


def in_two_passes(
    world: StreamingModel,
    state: State,
    latents: Tensor,
    noise_level: Tensor,
    actions: Tensor | None = None,
    **conditions: Tensor,
) -> tuple[Tensor, State]:
    """`forward_folded` for models that gain nothing by one pass."""
    n = world.frames_per_block
    known, new = (None, None) if actions is None else (actions[:, :-n], actions[:, -n:])
    _, state = world.forward_streamed(
        state, latents[:, :-n], noise_level[:, :-n], known, commit=True, **conditions
    )
    output, _ = world.forward_streamed(
        state, latents[:, -n:], noise_level[:, -n:], new, commit=False, **conditions
    )
    return output, state


def alike_pasts(streams: Sequence[Stream]) -> list[Past]:
    """What streams have seen, as `join_pasts` takes it: blocks that wait are written, unless all have one of a kind."""
    if not are_alike([stream.past for stream in streams]):
        for stream in streams:
            stream.past = stream._written(stream.past)
    return [stream.past for stream in streams]


def start_stream(
    world: StreamingModel,
    b: int,
    h: int,
    w: int,
    *,
    sampling: Sampling | None = None,
    seed: int | Sequence[int] = 0,
    window: int | None = None,
    **conditions: Tensor,
) -> Stream:
    """A new stream of rollouts. `observe` some frames, then `step`.

    Args:
        world: The model.
        b: Number of rollouts.
        h: Height of the latents.
        w: Width of the latents.
        sampling: How frames are sampled.
        seed: Of the noise; or b seeds, of each rollout's own.
        window: Frames in view, where the plan has no window.
        conditions: What the plan names, once per rollout (b …).

    Raises:
        V2WError: There are several seeds, and not b.
    """
    state, tokens = world.empty_state(b, h, w, window), world.clip_tokens(h, w, window)
    size, sampling = (b, h, w), sampling or Sampling()
    if isinstance(seed, int):
        return Stream(world, state, size, sampling, seed, conditions, tokens)
    if len(seed) != b:
        raise V2WError(f"start {b} rollouts", f"{len(seed)} seeds", "one seed, or one for each")
    return SeededStream(world, state, size, sampling, seed, conditions, tokens)

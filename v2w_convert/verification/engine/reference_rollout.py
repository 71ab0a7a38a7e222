"""A rollout as it is defined: at every step the whole clip so far, and the block to come, go through `World.forward`.

It shares nothing with `v2w_convert.world.rollout`, of which it is the measure: there is no state, and no streamed pass.
Of the noise it takes `add_noise`, `inference_levels` and, anew for each block, `sampler`, of which there are claims of
their own (noise-added, noise-told, noise-begins, noise-stepped).
"""

from copy import copy

import torch
from torch import Tensor

from v2w_convert.world.experts import AnyWorld
from v2w_convert.world.rollout import Sampling


class ReferenceRollout:
    """b rollouts side by side, to be shown frames (`observe`) and continued (`step`), as a stream is. On the CPU.

    The noise is standard normal, drawn in float32 from one generator in this order: of the frames that are observed
    together; of a block's first level; of the same block as history. With history guidance, noise of the other history
    follows that of history.

    Attributes:
        frames: So far, as the model is shown them: noised to `level` (b t c h w).
        level: (b t).
        other: The same frames as history guidance leads away from them: noised to `other_level` (b t c h w).
        other_level: (b t).
        actions: (b t a); zeros where none is known.
        unknown: (b t) bool, where none is known.
    """

    def __init__(
        self,
        world: AnyWorld,
        b: int,
        h: int,
        w: int,
        *,
        sampling: Sampling,
        seed: int,
        window: int | None = None,
        **conditions: Tensor,
    ):
        """Begin with no frames. Arguments as of `v2w_convert.world.rollout.start_stream`."""
        self.world, self.sampling, self.conditions = world, sampling, conditions
        self.tokens = world.clip_tokens(h, w, window)
        self.generator = torch.Generator().manual_seed(seed)
        self.frames = torch.empty(b, 0, world.channels, h, w, dtype=world.dtype)
        self.level = torch.empty(b, 0)
        self.other, self.other_level = self.frames, self.level
        self.actions = torch.empty(b, 0, world.action_dim, dtype=world.dtype)
        self.unknown = torch.empty(b, 0, dtype=torch.bool)

    def branch(self, seed: int | None = None) -> "ReferenceRollout":
        """Another rollout with the same past; with the same noise to come, unless `seed` is given."""
        twin = copy(self)
        twin.generator = torch.Generator()
        if seed is None:
            twin.generator.set_state(self.generator.get_state())
        else:
            twin.generator.manual_seed(seed)
        return twin

    def observe(self, latents: Tensor, actions: Tensor | None = None) -> None:
        """Take frames (b t c h w) and the actions (b t a) that led to them into the past."""
        noise, sampling = self.world.noise, self.sampling
        clean = latents.to(self.world.dtype)
        wanted = sampling.context_noise
        histories = [noise.history_level if wanted is None else wanted]
        if sampling.history_guidance != 1:
            wanted = sampling.history_guidance_noise
            histories.append(noise.max_level if wanted is None else wanted)
        shown = []
        for wanted in histories:
            level = self._level(clean, wanted)
            shown.append((noise.add_noise(clean, self._normal(clean), level), level))
        self._append(shown[0], shown[-1], actions)

    def step(self, action: Tensor | None = None) -> Tensor:
        """The next frame (b c h w) after `action` (b a); of blocks of n > 1 frames, `step_block`."""
        if self.world.frames_per_block > 1:
            return self.step_block(action)
        return self.step_block(action if action is None else action[:, None])[:, 0]

    @torch.no_grad()
    def step_block(self, actions: Tensor | None = None) -> Tensor:
        """The next block (b n c h w) after `actions` (b n a)."""
        n, noise, steps = self.world.frames_per_block, self.world.noise, self.sampling.steps
        sampler = noise.sampler(steps, self.tokens)
        frame = sampler.start(
            self._normal(self.frames.new_empty(len(self.frames), n, *self.frames.shape[2:]))
        )
        for i, level in enumerate(noise.inference_levels(steps, self.tokens)[:-1]):
            clip = copy(self)
            now = frame, clip._level(frame, float(level))
            clip._append(now, now, actions)
            frame = sampler.step(clip._guided()[:, -n:], frame, i)
        self.observe(frame, actions)
        return frame

    def _guided(self) -> Tensor:
        """The model's output for the whole clip, and how far it is from those that guidance leads away from.

        One does not know the newest actions, the other is shown the other history.
        """
        bare = self.unknown.clone()
        bare[:, -self.world.frames_per_block :] = True
        output = self._output(self.frames, self.level, self.unknown)
        guided = output
        if self.sampling.guidance != 1:
            away = output - self._output(self.frames, self.level, bare)
            guided = guided + (self.sampling.guidance - 1) * away
        if self.sampling.history_guidance != 1:
            away = output - self._output(self.other, self.other_level, self.unknown)
            guided = guided + (self.sampling.history_guidance - 1) * away
        return guided

    def _output(self, frames: Tensor, level: Tensor, unknown: Tensor) -> Tensor:
        output: Tensor = self.world(frames, level, actions=self.actions, dropped=unknown, **self.conditions)
        return output

    def _append(
        self, seen: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], actions: Tensor | None
    ) -> None:
        """Add frames and their levels as both histories show them."""
        (frames, level), (other_frames, other_level) = seen, other
        unknown = torch.full(level.shape, actions is None)
        if actions is None:
            actions = torch.zeros(*level.shape, self.world.action_dim)
        self.frames = torch.cat([self.frames, frames], 1)
        self.level = torch.cat([self.level, level], 1)
        self.other = torch.cat([self.other, other_frames], 1)
        self.other_level = torch.cat([self.other_level, other_level], 1)
        self.actions = torch.cat([self.actions, actions.to(self.world.dtype)], 1)
        self.unknown = torch.cat([self.unknown, unknown], 1)

    def _level(self, frames: Tensor, level: float) -> Tensor:
        return torch.full(frames.shape[:2], level)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator).to(like.dtype)

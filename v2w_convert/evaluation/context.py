"""What all figures of one evaluation are measured on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.data import open_dataset
from v2w_convert.device import resolve_device, resolve_dtype
from v2w_convert.evaluation.clips import EvaluationClips, cut_clips, per_episode, read_episodes
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.evaluation.metrics import bootstrap
from v2w_convert.evaluation.result import Interval
from v2w_convert.evaluation.rollout_frames import history_length, rollout_frames, sampling_of
from v2w_convert.evaluation.settings import EvaluateSettings
from v2w_convert.plan.call import Conditions
from v2w_convert.surgery.load import load, open_converted
from v2w_convert.world.experts import AnyWorld
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.vae import VAE, open_vae, require_frame_size


@dataclass(frozen=True)
class EvaluationContext:
    """A world model, clips to evaluate it on, and how.

    Attributes:
        world: The world model.
        vae: Its autoencoder.
        settings: The settings.
        history: Observed video frames per clip.
        clips: n clips of t video frames.
        training: Clips to train the action classifier on, if there are any.
        latents: (n j c h w): at least the history's latents, in which later frames have left no trace.
        round_tripped: The clips' frames, encoded and decoded: (n t 3 height width).
        conditions: Of each clip (n …).
    """

    world: AnyWorld
    vae: VAE
    settings: EvaluateSettings
    history: int
    clips: EvaluationClips
    training: EvaluationClips | None
    latents: Tensor
    round_tripped: Tensor
    conditions: Conditions = field(default_factory=dict)

    @property
    def truth(self) -> Tensor:
        """The recorded frames after the history: (n t-history 3 height width)."""
        return self.clips.frames[:, self.history :]

    def rollout(self, actions: Tensor, seed: int) -> Tensor:
        """Generate frames (k t-history 3 height width) of the first k clips, for their `actions` (k t a)."""
        return torch.cat(list(self.rollout_stream(actions, seed)), 1)

    def rollout_stream(self, actions: Tensor, seed: int) -> Iterator[Tensor]:
        """The same frames, some (k m 3 height width) after others."""
        latents = self.latents[: len(actions)]
        own = {name: value[: len(actions)] for name, value in self.conditions.items()}
        return rollout_frames(self.world, self.vae, latents, actions, self.history, self.sampling, seed, own)

    @property
    def sampling(self) -> Sampling:
        """How frames are sampled."""
        return sampling_of(self.settings, self.world.noise)

    def interval(self, values: Tensor) -> Interval:
        """Mean and interval over episodes of one number per clip (n,)."""
        return bootstrap(per_episode(values, self.clips), self.settings.seed)

    def intervals(self, values: Tensor) -> list[Interval]:
        """The same for each column of `values` (n k)."""
        means = per_episode(values, self.clips)
        return [bootstrap(means[:, i], self.settings.seed) for i in range(means.shape[1])]


def open_context(world_folder: Path, data: Path, settings: EvaluateSettings) -> EvaluationContext:
    """Load the model and encode the clips.

    Raises:
        V2WError: Model or data cannot be read, do not fit together, or the episodes are too short.
    """
    device = resolve_device(settings.device)
    manifest, _, resolved = open_converted(world_folder)
    resolved.noise.build().check_sampling(settings.steps, settings.context_noise)
    vae = open_vae(world_folder, device)
    compression, longest = vae.packing, max(settings.horizons)
    history = history_length(resolved.frames_per_block, compression, settings.history)
    data_set = open_dataset(data, settings, manifest.view)
    episodes = read_episodes(data_set, manifest.action_dim, compression, settings.episodes)
    require_frame_size(vae, episodes[0].frames, f"evaluate on {data}")
    clips = cut_clips(episodes, history, compression.whole_blocks(history + longest) - history)
    training = None
    if settings.classifier_data is not None:
        others = open_dataset(settings.classifier_data, settings, manifest.view)
        training = cut_clips(
            read_episodes(others, manifest.action_dim, compression, None),
            0,
            compression.whole_blocks(longest),
        )
    conditions, _ = rollout_conditions(
        world_folder,
        vae,
        [episodes[number].tasks for number in clips.episode.tolist()],
        list(as_uint8(clips.frames[:, :1])[:, 0].numpy()),
        device,
    )
    latents = vae.encode(as_uint8(clips.frames))
    round_tripped = vae.decode(latents).cpu()
    if not vae.single:  # frames after the history may have left a trace in its latents
        latents = vae.encode(as_uint8(clips.frames[:, :history]))
    world = load(world_folder, device=device, dtype=resolve_dtype(settings.dtype))
    return EvaluationContext(
        world, vae, settings, history, clips, training, latents, round_tripped, conditions
    )


def as_uint8(frames: Tensor) -> Tensor:
    """Frames (n t 3 height width) in [0, 1] -> (n t height width 3) uint8."""
    return (frames.permute(0, 1, 3, 4, 2) * 255).round().to(torch.uint8)

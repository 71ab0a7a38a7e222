"""What all figures of one evaluation are measured on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.data import open_dataset
from v2w_convert.data.view import decided
from v2w_convert.device import resolve_device, resolve_dtype
from v2w_convert.engines.open import open_engine
from v2w_convert.evaluation.action_parts import MeasuredPart, parts_of
from v2w_convert.evaluation.clips import EvaluationClips, cut_clips, other_actions, per_episode, read_episodes
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.evaluation.metrics import bootstrap
from v2w_convert.evaluation.result import Interval
from v2w_convert.evaluation.rollout_frames import (
    check_sampling,
    history_length,
    rollout_frames,
    sampling_of,
)
from v2w_convert.evaluation.settings import EvaluateSettings
from v2w_convert.plan.call import Conditions
from v2w_convert.processes import ALONE, Processes
from v2w_convert.surgery.load import open_converted
from v2w_convert.world.rollout import Sampling, StreamingModel
from v2w_convert.world.vae import VAE, open_vae, require_frame_size


@dataclass(frozen=True)
class EvaluationContext:
    """A world model, clips to evaluate it on, and how.

    Attributes:
        world: The world model.
        vae: Its autoencoder.
        settings: The settings, with those that were left open as they were decided.
        sampling: How frames are sampled.
        history: Observed video frames per clip.
        fps: Video frames per second.
        clips: n clips of t video frames.
        other: The actions of another episode after the history, for each clip (n t a).
        parts: What an action is made of.
        training: Clips to train the network on that reads actions, if there are any.
        encoded: The clips' latents (n j c h w), on the CPU.
        latents: (n j c h w), on the CPU: at least the history's latents, in which later frames have left no trace.
        conditions: Of each clip (n …).
        processes: Those that share the work, each with all of this.
    """

    world: StreamingModel
    vae: VAE
    settings: EvaluateSettings
    sampling: Sampling
    history: int
    fps: float
    clips: EvaluationClips
    other: Tensor
    parts: list[MeasuredPart]
    training: EvaluationClips | None
    encoded: Tensor
    latents: Tensor
    conditions: Conditions = field(default_factory=dict)
    processes: Processes = ALONE

    def batches(self, count: int | None = None) -> list[Tensor]:
        """The clips that are rolled out together: all of them, or the first `count`."""
        return batches(len(self.clips) if count is None else count, self.settings.batch, self.processes)

    def round_trip(self, rows: Tensor) -> Tensor:
        """Some clips' frames, encoded and decoded: (m t 3 height width)."""
        return self.vae.decode(self.encoded[rows].to(self.world.device)).cpu()

    def rollout(self, rows: Tensor, actions: Tensor, sample: int | str) -> Tensor:
        """Generate frames (m t-history 3 height width) of some clips, for their `actions` (m t a)."""
        return torch.cat(list(self.rollout_stream(rows, actions, sample)), 1)

    def rollout_stream(self, rows: Tensor, actions: Tensor, sample: int | str) -> Iterator[Tensor]:
        """The same frames, some (m k 3 height width) after others.

        Each clip has noise of its own for each `sample`, whichever clips are rolled out together.
        """
        latents = self.latents[rows].to(self.world.device)
        own = {name: value[rows] for name, value in self.conditions.items()}
        seeds = [noise_seed(self.settings.seed, sample, clip) for clip in rows.tolist()]
        return rollout_frames(self.world, self.vae, latents, actions, self.history, self.sampling, seeds, own)

    @cached_property
    def recorded_actions(self) -> Tensor:
        """All actions of the clips that led to a frame of theirs (k a)."""
        return self.clips.actions[:, 1:].flatten(0, 1)

    def interval(self, values: Tensor) -> Interval:
        """Mean and interval over episodes of one number per clip (n,)."""
        return bootstrap(per_episode(values, self.clips), self.settings.seed)

    def intervals(self, values: Tensor) -> list[Interval]:
        """The same for each column of `values` (n k)."""
        means = per_episode(values, self.clips)
        return [bootstrap(means[:, i], self.settings.seed) for i in range(means.shape[1])]


def open_context(
    world_folder: Path, data: Path, settings: EvaluateSettings, processes: Processes = ALONE
) -> EvaluationContext:
    """Load the model and encode the clips.

    Args:
        world_folder: The model.
        data: The data set.
        settings: How to evaluate.
        processes: Those that share the work. All call this.

    Raises:
        V2WError: Model or data cannot be read, do not fit together, or the episodes are too short or too few.
    """
    device = processes.device(settings.device)
    dtype = resolve_dtype(settings.dtype, device)
    manifest, _, resolved = open_converted(world_folder)
    check_sampling(settings, manifest, resolved.noise.build())
    vae = open_vae(world_folder, device)
    compression, longest = vae.packing, max(settings.horizons)
    history = history_length(resolved.frames_per_block, compression, settings.history)
    data_set = open_dataset(data, settings, manifest.view)
    episodes = read_episodes(data_set, manifest.action_dim, compression, settings.episodes)
    require_frame_size(vae, episodes[0].frames, f"evaluate on {data}")
    clips = cut_clips(episodes, history, compression.whole_blocks(history + longest) - history)
    other = other_actions(clips, history)
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
        list(clips.frames[:, 0].numpy()),
        device,
    )
    encoded = encode(vae, clips.frames, settings.batch, processes)
    # Frames after the history may have left a trace in its latents.
    latents = encoded if vae.single else encode(vae, clips.frames[:, :history], settings.batch, processes)
    world = open_engine(world_folder, settings.engine, device, dtype, settings.cache)
    sampling = sampling_of(settings, manifest, world.noise)
    found = {
        **decided(data_set, settings, manifest.view, episodes[0].frames[0]).model_dump(),
        "device": str(resolve_device(settings.device)),
        "dtype": str(dtype).removeprefix("torch."),
        "history": history,
        "steps": sampling.steps,
        "context_noise": sampling.context_noise,
        "history_guidance_noise": sampling.history_guidance_noise,
    }
    recorded = torch.cat(
        [each.actions[:, 1:].flatten(0, 1) for each in (clips, training) if each is not None]
    )
    return EvaluationContext(
        world,
        vae,
        settings.model_copy(update=found),
        sampling,
        history,
        data_set.fps,
        clips,
        other,
        parts_of(data_set.action_space, recorded),
        training,
        encoded,
        latents,
        conditions,
        processes,
    )


def encode(vae: VAE, frames: Tensor, batch: int, processes: Processes) -> Tensor:
    """Latents (n j c h w) of clips (n t height width 3) uint8, on the CPU, some at a time."""
    rows = batches(len(frames), batch, processes)
    return torch.cat(list(processes.each_of(rows, lambda some: vae.encode(frames[some]).cpu())))


def batches(n: int, batch: int, processes: Processes) -> list[Tensor]:
    """The numbers of n rows, `batch` of them at a time, or fewer, so that every process has some."""
    return list(torch.arange(n).split(min(batch, -(-n // processes.count))))


def noise_seed(seed: int, sample: int | str, clip: int) -> int:
    """The seed of one rollout's noise."""
    digest = hashlib.blake2b(f"{seed} {sample} {clip}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1

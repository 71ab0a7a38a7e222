"""Rollouts while training: what the model generates, beside the recorded frames, as a video."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_convert.data import Dataset, Episode
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.conditions import rollout_conditions
from v2w_convert.evaluation.pictures import captioned, contact_sheet, write_video
from v2w_convert.evaluation.rollout_frames import history_length, rollout_frames
from v2w_convert.finetuning.run_folder import ROLLOUTS
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.plan.call import Conditions
from v2w_convert.world.experts import AnyWorld
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.vae import VAE, as_uint8, open_vae

LEAST_HEIGHT = 128  # smaller frames are enlarged by a whole number
SHEET_FRAMES = 8  # in a row of the picture that trackers get

Frames = NDArray[np.uint8]
"""(t h w 3)"""


@dataclass(frozen=True)
class Previews:
    """n episodes of t video frames, as they are rolled out again and again.

    Attributes:
        folder: The converted folder, for its autoencoder.
        true: Recorded frames (n t h w 3).
        latents: Of the history (n j c h w), on the CPU.
        actions: (n t a); row i led from frame i - 1 to frame i.
        history: Observed video frames.
        conditions: Of each episode (n …), on the CPU.
        fps: Frames a second of the data.
        seed: Of the noise.
    """

    folder: Path
    true: Frames
    latents: Tensor
    actions: Tensor
    history: int
    conditions: Conditions
    fps: float
    seed: int

    def write(self, world: AnyWorld, output: Path, step: int) -> NDArray[np.uint8]:
        """Roll the episodes out and write RUN/rollouts/step-….mp4; the same picture of every frame comes to it.

        Args:
            world: The world model; it is in its former mode afterwards.
            output: The run folder.
            step: The step's number.

        Returns:
            A contact sheet (h w 3): for each episode a row of true frames and one of generated ones.
        """
        vae = open_vae(self.folder, world.device)
        was_training = world.training
        world.eval()
        made = rollout_frames(
            world,
            vae,
            self.latents.to(world.device),
            self.actions,
            self.history,
            Sampling(),
            self.seed,
            self.conditions,
        )
        generated = as_uint8_frames(torch.cat(list(made), 1))
        world.train(was_training)
        rolled = np.concatenate([self.true[:, : self.history], generated], 1)
        target = output / ROLLOUTS / f"step-{step:08d}.mp4"
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)  # of a run that was interrupted after it
        write_video(side_by_side(self.true, rolled), target, self.fps)
        shown = np.linspace(0, rolled.shape[1] - 1, min(SHEET_FRAMES, rolled.shape[1])).round().astype(int)
        rows = [x[shown] for pair in zip(self.true, rolled, strict=True) for x in pair]
        return contact_sheet(rows, scale=1, gap=2)


def prepare_previews(
    folder: Path, data: Dataset, vae: VAE, device: torch.device, block: int, settings: FinetuneSettings
) -> Previews:
    """Read and encode what is needed, before the denoiser needs the memory.

    Args:
        folder: The converted folder.
        data: The data set; its first episodes that are long enough are taken.
        vae: The autoencoder.
        device: Where it is.
        block: Latent frames that are denoised at once.
        settings: How many video frames are generated, or as many as the shortest of the episodes has; and how many
            episodes, or as many as there are.

    Raises:
        V2WError: No episode is longer than a history, or the data cannot be read.
    """
    history = history_length(block, vae.packing, None)
    long_enough = (episode for episode in data.episodes() if len(episode) > history)
    episodes: list[Episode] = list(islice(long_enough, settings.rollout_episodes))
    if not episodes:
        longest = max(data.lengths, default=0)
        raise V2WError(
            f"show rollouts of {data.path}",
            f"they begin with {history} frames, and the longest episode has {longest}",
            "no --rollout-every",
        )
    t = min(history + settings.rollout_frames, *map(len, episodes))
    true = np.stack([episode.frames[:t] for episode in episodes])
    conditions, _ = rollout_conditions(
        folder,
        vae,
        [episode.tasks for episode in episodes],
        [episode.frames[0] for episode in episodes],
        device,
    )
    return Previews(
        folder=folder,
        true=true,
        latents=torch.stack([vae.encode(frames[:history]) for frames in true]).cpu(),
        actions=torch.from_numpy(np.stack([episode.arriving_actions[:t] for episode in episodes])),
        history=history,
        conditions={name: value.cpu() for name, value in conditions.items()},
        fps=data.fps,
        seed=settings.seed,
    )


def as_uint8_frames(frames: Tensor) -> Frames:
    """(n t 3 h w) in [0, 1] -> (n t h w 3)."""
    return np.stack([as_uint8(clip) for clip in frames])


def side_by_side(true: Frames, rolled: Frames) -> Iterator[NDArray[np.uint8]]:
    """One picture (h w 3) for every frame: truth and rollout of each episode beside each other."""
    scale = max(LEAST_HEIGHT // true.shape[2], 1)
    panels = [
        captioned(clip.repeat(scale, 1).repeat(scale, 2), title)
        for pair in zip(true, rolled, strict=True)
        for clip, title in zip(pair, ("truth", "rollout"), strict=True)
    ]
    yield from np.concatenate(panels, 2)

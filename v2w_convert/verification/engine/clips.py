"""Clips of the user's own data, on which the distance from the base can be measured."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.data import DataSettings, open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.engine.inputs import enough_frames, latent_size
from v2w_convert.verification.report.provenance import public_path
from v2w_convert.world.model import World
from v2w_convert.world.vae import open_vae, require_frame_size

MAX_CLIPS = 4


@dataclass(frozen=True)
class ReferenceClips:
    """Clips on which the two models are compared.

    Attributes:
        latents: (b t c h w) float64, clean.
        description: What they are, for the report.
    """

    latents: Tensor
    description: str


def relative_size(clips: ReferenceClips | None, world: World) -> float:
    """Return how many times as large `clips` are as one generated clip; 1 for None, which stands for that."""
    if clips is None:
        return 1.0
    h, w = latent_size(world)
    b, _, _, height, width = clips.latents.shape
    return b * height * width / (h * w)


@torch.no_grad()
def read_clips(data: Path, settings: DataSettings, converted: Path, world: World) -> ReferenceClips:
    """Encode the middle of each of the first `MAX_CLIPS` episodes that are long enough.

    Args:
        data: A data set that `open_dataset` reads.
        settings: How to read it.
        converted: The converted folder, with the autoencoder.
        world: The world model.

    Raises:
        V2WError: If the data cannot be read, if no episode is long enough, if there is no autoencoder, or if its
            latents do not fit the model.
    """
    task = f"measure the distance on clips of {data}"
    data_set = open_dataset(data, settings, read_manifest(converted).view)
    vae = open_vae(converted)
    t = vae.packing.frames(world.resolved.frames(enough_frames(world)))
    long_enough = (episode.frames for episode in data_set.episodes() if len(episode) >= t)
    chosen = [frames[(len(frames) - t) // 2 :][:t] for frames in islice(long_enough, MAX_CLIPS)]
    if not chosen:
        raise V2WError(task, f"no episode has {t} frames", "longer episodes")
    require_frame_size(vae, chosen[0], task)
    latents = torch.stack([vae.encode(frames) for frames in chosen]).double()
    block = latents[:1, : world.frames_per_block]
    try:
        world(block, torch.zeros(block.shape[:2]))
    except (RuntimeError, ValueError) as error:
        found = f"the latents of its frames, {tuple(block.shape[2:])}, do not fit the model ({error})"
        raise V2WError(task, found, "data that the model was made for") from None
    count = f"{len(chosen)} clip{'s' if len(chosen) > 1 else ''}"
    return ReferenceClips(latents, f"{count} of {public_path(data)}, no conditions")

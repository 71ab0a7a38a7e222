"""Clips of the user's own data, on which the distance from the base can be measured."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.verification.inputs import enough_frames, latent_size
from v2w_convert.verification.provenance import shown
from v2w_convert.world.model import World
from v2w_convert.world.vae import open_vae, require_frame_size

CLIPS = 4


@dataclass(frozen=True)
class ReferenceClips:
    """
    latents  (b t c h w) float64, clean
    told     what they are, in words
    """

    latents: Tensor
    told: str


def size_of(clips: ReferenceClips | None, world: World) -> float:
    """How many times as large they are as one clip that is drawn, which stands for none."""
    if clips is None:
        return 1.0
    h, w = latent_size(world)
    b, _, _, height, width = clips.latents.shape
    return b * height * width / (h * w)


@torch.no_grad()
def read_clips(data: Path, camera: str | None, converted: Path, world: World) -> ReferenceClips:
    """The middle of each of the first CLIPS episodes that are long enough, by the autoencoder beside the model.

    Raises V2WError if the data cannot be read, if no episode is long enough, if there is no autoencoder, or if its
    latents do not go through the model.
    """
    asked = f"measure the distance on clips of {data}"
    data_set = open_dataset(data, camera=camera)
    pixels = open_vae(converted)
    t = pixels.packing.frames(world.resolved.frames(enough_frames(world)))
    long = (episode.frames for episode in data_set.episodes() if len(episode) >= t)
    chosen = [frames[(len(frames) - t) // 2 :][:t] for frames in islice(long, CLIPS)]
    if not chosen:
        raise V2WError(asked, f"no episode has {t} frames", "longer episodes")
    require_frame_size(pixels, chosen[0], asked)
    latents = torch.stack([pixels.encode(frames) for frames in chosen]).double()
    block = latents[:1, : world.frames_per_block]
    try:
        world(block, torch.zeros(block.shape[:2]))
    except (RuntimeError, ValueError) as error:
        found = f"its pictures' latents, {tuple(block.shape[2:])}, do not go through the model ({error})"
        raise V2WError(asked, found, "data for which the model was made") from None
    count = f"{len(chosen)} clip{'s' if len(chosen) > 1 else ''}"
    return ReferenceClips(latents, f"{count} of {shown(data)}, no conditions")

"""Frames in and out of models, how well they are kept, and contact sheets."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from v2w_convert.data import open_dataset
from v2w_convert.evaluation.pictures import contact_sheet
from v2w_convert.new_file import new_file

GRID = 8  # pixels a side of what one latent stands for


def read_frames(folders: Iterable[Path]) -> list[Tensor]:
    """Episodes (t 3 h w) uint8 of data sets, one after the other."""
    episodes = (episode for folder in folders for episode in open_dataset(folder).episodes())
    return [torch.from_numpy(episode.frames).permute(0, 3, 1, 2) for episode in episodes]


def as_input(pixels: Tensor) -> Tensor:
    """uint8 pixels as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def as_pixels(output: Tensor) -> NDArray[np.uint8]:
    """What a decoder gives (t 3 h w), as uint8 pixels (t h w 3)."""
    pixels = ((output.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def psnr(found: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures (n 3 h w) in [-1, 1], mean over pictures."""
    squared = ((found.clamp(-1, 1) - truth) / 2).square().mean((1, 2, 3)).clamp(min=1e-10)
    return round(float((-10 * squared.log10()).mean()), 3)


def grid_pattern(found: Tensor, truth: Tensor) -> float:
    """How unevenly the squared error lies within the squares that latents stand for: 0 is evenly.

    The standard deviation over the 64 places in a square, of the error there, divided by the mean.
    """
    error = (found.clamp(-1, 1) - truth).square().mean((0, 1))
    by_place = error.unflatten(0, (-1, GRID)).unflatten(2, (-1, GRID)).mean((0, 2))
    return round(float(by_place.std(correction=0) / by_place.mean().clamp(min=1e-10)), 4)


def texture(pixels: Tensor) -> Tensor:
    """How strong the fine detail is, (b 6 h/8 w/8): root mean square step to the next pixel, across and down."""
    across = F.pad(pixels.diff(dim=-1), (0, 1))
    down = F.pad(pixels.diff(dim=-2), (0, 0, 0, 1))
    return (F.avg_pool2d(torch.cat([across, down], dim=1).square(), GRID) + 1e-5).sqrt()


def write_sheet(rows: list[NDArray[np.uint8]], file: Path) -> None:
    """Write clips (t h w 3), one a row, as a PNG; an earlier one is replaced."""
    sheet = contact_sheet(rows, scale=1, gap=2)
    with new_file(file, replace=True) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")

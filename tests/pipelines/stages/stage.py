"""A pipeline of diffusers with everything that it is called with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tests.pipelines.release import Release

STEPS = 4
SEED = 2
"""Of the noise that some pipelines add to a picture."""


@dataclass
class Stage:
    """A pipeline, ready to run.

    Attributes:
        pipeline: Of diffusers.
        arguments: Of its call.
        conditions: What the world is given besides latents, by the plan's names. Of the pipeline's own inputs, so that the
            embeddings and masks are those that it was given.
        layout: How its scheduler receives latents, as einops writes it.
        sizes: t, h, w of the latents.
        vae: Its autoencoder, where it begins from a picture.
        picture: That picture, as the pipeline receives it.
        clean_frames: Leading frames that it holds clean, and does not step.
        clean_told: Whether it tells the denoiser that they are clean.
        clean_left_out: Whether its scheduler receives the other frames only.
        copies_scheduler: Whether every frame has a copy of the scheduler, which cannot be recorded.
        unread: Arguments that it gives although the denoiser does nothing with them, or whose meaning the folded model has
            in another way; and why.
        steps: The pipeline's, where they are not `STEPS`.
    """

    pipeline: Any
    arguments: dict[str, Any]
    conditions: dict[str, Tensor]
    sizes: tuple[int, int, int]
    layout: str = "b c t h w"
    vae: Any = None
    picture: Image.Image | None = None
    clean_frames: int = 0
    clean_told: bool = False
    clean_left_out: bool = False
    copies_scheduler: bool = False
    unread: dict[str, str] = field(default_factory=dict)
    steps: int = STEPS


Builder = Callable[[Release, dict[str, nn.Module], Any], Stage]
"""Makes a stage of a release's tiny denoisers, by their names in the pipeline, and its scheduler."""


def drawn(*shape: int, seed: int) -> Tensor:
    """Normal numbers, always the same for a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def words(total: int, given: int) -> Tensor:
    """(1, total), one for each of the first `given` tokens of a prompt."""
    return (torch.arange(total) < given).long()[None]


def picture(height: int, width: int) -> Image.Image:
    """A picture with no two pixels alike."""
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype("uint8"))


def returned(value: Any) -> Callable[..., Any]:
    """A function that returns `value`, in place of an encoder's."""
    return lambda *args, **kwargs: value

"""A kind of noise: TrigFlow. The how-to "Add a kind of noise" shows this file."""

# --8<-- [start:kind]
import math

import torch
from torch import Tensor

from v2w_convert.noise import Noise


class TrigFlow(Noise):
    """A quarter circle from frame to noise (TrigFlow, arXiv 2410.11081, section 3).

    A level is the angle, 0 … pi/2. The base receives the angle as its timestep.
    """

    max_level = math.pi / 2

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return level.cos(), level.sin()

    def timestep(self, level: Tensor) -> Tensor:
        return level

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        return self.max_level * torch.rand(shape, generator=generator)

    def inference_levels(self, steps: int, tokens: int | None = None) -> Tensor:
        return torch.linspace(self.max_level, 0.0, steps + 1)


# --8<-- [end:kind]

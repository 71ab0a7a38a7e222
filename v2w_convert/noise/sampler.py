"""From noise to clean frames, one block, with the solver that the checkpoint ships."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from v2w_convert.noise.predictions import Prediction, split_output, weighted_sum, wide

if TYPE_CHECKING:
    from v2w_convert.noise.base import Noise


class Sampler:
    """One block's denoising: `start`, then the base and `step` in turn, i = 0 … steps - 1.

    This one goes along the straight line from noise to frame: DDIM with eta 0, Euler.

    Attributes:
        levels: (steps + 1,) float32, falling: the level that the base is told at each step, and that of the result.
    """

    def __init__(self, noise: "Noise", levels: Tensor):
        self.noise, self.levels = noise, levels

    def start(self, noise: Tensor) -> Tensor:
        """The frames (b t c h w) at `levels[0]`, of standard normal `noise`."""
        return self.noise.add_noise(torch.zeros_like(noise), noise, self._level(0, noise))

    def step(self, output: Tensor, noisy: Tensor, i: int) -> Tensor:
        """The frames at `levels[i + 1]`.

        Args:
            output: What the base says to `noisy` at `levels[i]`, (b t c h w).
            noisy: The frames at `levels[i]`, (b t c h w).
            i: The number of the step; steps come in order.
        """
        clean, noise = self.noise.to_clean_and_noise(output, noisy, self._level(i, noisy))
        return self.noise.add_noise(clean, noise, self._level(i + 1, noisy))

    def _level(self, i: int, frames: Tensor) -> Tensor:
        return torch.full(frames.shape[:2], float(self.levels[i]), device=frames.device)


@dataclass(frozen=True)
class Line:
    """What a scheduler of one evaluation per step does, in numbers.

    Attributes:
        given: Alpha and sigma of the frames that each step is given.
        returned: Alpha and sigma of those that it returns. They may differ from the next step's `given`: DDIM goes
            down by a fixed number of timesteps, whatever its grid is.
        first: Frames at the first level are noise times this.
        rescaled: Factors on the clean frames from a step's level to the next one's.
        clip: Largest size of a number in what is found to be clean.
        sign: 1, or -1 where the base predicts the opposite.
    """

    given: list[tuple[float, float]]
    returned: list[tuple[float, float]]
    first: float = 1.0
    rescaled: list[float] | None = None
    clip: float | None = None
    sign: int = 1


class LineSampler(Sampler):
    """DDIM with eta 0 and Euler, between exactly those noise levels that a scheduler of diffusers steps between."""

    def __init__(self, levels: Tensor, line: Line, prediction: Prediction, data: float):
        self.levels, self.line, self.prediction, self.data = levels, line, prediction, data

    def start(self, noise: Tensor) -> Tensor:
        return noise * self.line.first

    def step(self, output: Tensor, noisy: Tensor, i: int) -> Tensor:
        line = self.line
        if line.sign < 0:
            output = -output
        clean, noise = split_output(
            self.prediction, output, noisy, *_weights(line.given[i], noisy), data=self.data
        )
        if line.clip is not None:
            clean = clean.clamp(-line.clip, line.clip)
        if line.rescaled is not None:
            clean = clean * line.rescaled[i]
        return weighted_sum(_weights(line.returned[i], noisy), (clean, noise))


class SolverSampler(Sampler):
    """A solver of diffusers, by its own `step`: multistep ones remember outputs (UniPC, DPM-Solver++)."""

    def __init__(self, levels: Tensor, scheduler: Any):
        """`scheduler`: with its timesteps set, for this sampler alone."""
        self.levels, self.scheduler = levels, scheduler
        scheduler.set_begin_index(0)

    def start(self, noise: Tensor) -> Tensor:
        return noise * float(self.scheduler.init_noise_sigma)

    def step(self, output: Tensor, noisy: Tensor, i: int) -> Tensor:
        following: Tensor = self.scheduler.step(output, self.scheduler.timesteps[i], noisy).prev_sample
        return following.to(noisy.dtype)


def _weights(pair: tuple[float, float], frames: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and sigma, each (b t), for the frames."""
    level = wide(torch.empty(frames.shape[:2], device=frames.device), frames)
    alpha, sigma = (torch.full_like(level, number) for number in pair)
    return alpha, sigma

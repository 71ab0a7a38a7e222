"""Variance exploding noise (EDM, arXiv 2206.00364)."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from v2w_convert.noise.base import Noise
from v2w_convert.noise.predictions import weighted_sum, wide
from v2w_convert.noise.sampler import Line, LineSampler, Sampler
from v2w_convert.noise.schedulers import build_scheduler, with_timesteps

if TYPE_CHECKING:
    from v2w_convert.noise.spec import NoiseSpec

LOG_SIGMA = (0.7, 1.6)  # mean and std in training: Stable Video Diffusion's (arXiv 2311.15127, appendix D)
RARE = 3.0  # history is given at a sigma so many standard deviations below the mean of log sigma …
HISTORY_SHARE = 1 / 8  # … and this share of training's levels is drawn around it,
HISTORY_STD = 0.1  # with this standard deviation of log sigma

# Stable Video Diffusion's.
UNKNOWN = {
    "_class_name": "EulerDiscreteScheduler",
    "timestep_type": "continuous",
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "use_karras_sigmas": True,
    "prediction_type": "v_prediction",
}
UNKNOWN_EDM = {"_class_name": "EDMEulerScheduler", "final_sigmas_type": "sigma_min"}  # Cosmos's


class Edm(Noise):
    """The level is sigma; the base receives 0.25 log sigma, and frames scaled to unit size.

    Training visits the smallest sigmas hardly ever. So history is given at a larger one, `history_level`, at which the
    noise is still slight, and training draws a share of its levels there.
    """

    def __init__(self, spec: "NoiseSpec"):
        super().__init__(spec)
        unknown = UNKNOWN_EDM if spec.prediction == "edm" else UNKNOWN
        self.scheduler: Any = build_scheduler(spec.scheduler, unknown)
        config = self.scheduler.config
        if spec.prediction == "edm":
            self.data = float(config.sigma_data)
        self.mean, self.std = spec.log_sigma or LOG_SIGMA
        self.min_level = float(config.sigma_min or 0.002)
        self.max_level = float(self.inference_levels(2)[0])
        self.history_level = math.exp(self.mean - RARE * self.std)

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level), level

    def timestep(self, level: Tensor) -> Tensor:
        return 0.25 * level.clamp(min=self.min_level).log()  # a clean frame has the smallest level's timestep

    def model_input(self, noisy: Tensor, level: Tensor) -> Tensor:
        sigma = wide(level, noisy)
        return weighted_sum((1 / (sigma**2 + self.data**2).sqrt(),), (noisy,))

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        usual = self.mean + self.std * torch.randn(shape, generator=generator)
        history = math.log(self.history_level) + HISTORY_STD * torch.randn(shape, generator=generator)
        is_history = torch.rand(shape, generator=generator) < HISTORY_SHARE
        return torch.where(is_history, history, usual).exp()

    def level_at(self, share: Tensor) -> Tensor:
        """As flow matching has it: the noise's deviation over the sum of the noise's and the data's."""
        return (self.data * share / (1 - share)).clamp(self.min_level, self.max_level)

    def share_of(self, level: Tensor) -> Tensor:
        return level / (level + self.data)

    def inference_levels(self, steps: int, tokens: int | None = None) -> Tensor:
        return _levels(with_timesteps(self.scheduler, steps))

    def sampler(self, steps: int, tokens: int | None = None) -> Sampler:
        scheduler = with_timesteps(self.scheduler, steps)
        levels = _levels(scheduler)
        pairs = [(1.0, sigma) for sigma in levels.double().tolist()]
        # Cosmos's pipeline does not ask its scheduler how large the first frames are.
        first = pairs[0][1] if self.spec.prediction == "edm" else float(scheduler.init_noise_sigma)
        line = Line(given=pairs[:-1], returned=pairs[1:], first=first)
        return LineSampler(levels, line, self.spec.prediction, self.data)


def _levels(scheduler: Any) -> Tensor:
    levels: Tensor = scheduler.sigmas.float()[: len(scheduler.timesteps) + 1]
    return levels

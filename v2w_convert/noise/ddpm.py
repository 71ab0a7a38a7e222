"""Noise by a table of training timesteps (DDPM, arXiv 2006.11239)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from v2w_convert.noise.base import Noise
from v2w_convert.noise.predictions import weighted_sum, wide
from v2w_convert.noise.sampler import Line, LineSampler, Sampler, SolverSampler
from v2w_convert.noise.schedulers import build_scheduler, with_timesteps

if TYPE_CHECKING:
    from v2w_convert.noise.spec import NoiseSpec

RESCALE_TIMESTEPS = 399.0  # from this timestep on, clean frames are scaled by `base_scale` (DynamiCrafter)

# Trailing: sampling begins at the largest level. Latents are not clipped.
UNKNOWN = {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "clip_sample": False}


class Ddpm(Noise):
    """A table of N training timesteps; the base receives the timestep.

    With a `base_scale` the frames that noise is added to, and that the base predicts, are scaled ones. Between two
    timesteps, the ratio of sigma and alpha is interpolated, as Euler schedulers do.
    """

    def __init__(self, spec: "NoiseSpec"):
        super().__init__(spec)
        self.scheduler: Any = build_scheduler(spec.scheduler, UNKNOWN)
        self._table: Tensor = self.scheduler.alphas_cumprod.double().clone()
        self._alphas_cumprod = self._table.clone()
        self._alphas_cumprod[0] = 1.0  # level 0 is clean, in place of the table's first entry (0.99998 or so)
        self.max_level = float(len(self._table) - 1)

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        table = self._alphas_cumprod.to(level.device)
        low = level.long()
        high = (low + 1).clamp(max=len(table) - 1)
        share = level.double() - low
        ratios = ((1 - table) / table).sqrt()
        ratio = torch.lerp(ratios[low], ratios[high], share)
        alphas_cumprod = torch.where(share == 0, table[low], 1 / (1 + ratio**2))
        return alphas_cumprod.sqrt().to(level.dtype), (1 - alphas_cumprod).sqrt().to(level.dtype)

    def scale(self, level: Tensor) -> Tensor:
        """The factor on clean frames at a level (b t): 1 at level 0."""
        return 1 + (self.spec.base_scale - 1) * (level / RESCALE_TIMESTEPS).clamp(max=1)

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return super().add_noise(self._scaled(clean, level), noise, level)

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return super().target(self._scaled(clean, level), noise, level)

    def to_clean_and_noise(self, output: Tensor, noisy: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        scaled, noise = super().to_clean_and_noise(output, noisy, level)
        if self.spec.base_scale == 1.0:
            return scaled, noise
        return weighted_sum((1 / self.scale(wide(level, noisy)),), (scaled,)), noise

    def _scaled(self, clean: Tensor, level: Tensor) -> Tensor:
        if self.spec.base_scale == 1.0:
            return clean
        return weighted_sum((self.scale(wide(level, clean)),), (clean,))

    def timestep(self, level: Tensor) -> Tensor:
        return level

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        return torch.randint(len(self._alphas_cumprod), shape, generator=generator).float()

    def level_at(self, share: Tensor) -> Tensor:
        return (share * len(self._table)).floor().clamp(max=self.max_level)

    def inference_levels(self, steps: int, tokens: int | None = None) -> Tensor:
        return _levels(with_timesteps(self.scheduler, steps))

    def sampler(self, steps: int, tokens: int | None = None) -> Sampler:
        scheduler = with_timesteps(self.scheduler, steps)
        levels = _levels(scheduler)
        if hasattr(scheduler, "lower_order_nums"):
            return SolverSampler(levels, scheduler)
        line = self._ddim(scheduler) if hasattr(scheduler, "final_alpha_cumprod") else _euler(scheduler)
        return LineSampler(levels, line, self.spec.prediction, self.data)

    def _ddim(self, scheduler: Any) -> Line:
        """DDIM goes from timestep t to t - N // steps, and from there below 0 to its final entry."""
        config = scheduler.config
        down = config.num_train_timesteps // scheduler.num_inference_steps
        given = scheduler.timesteps.long()
        returned = given - down
        final = scheduler.final_alpha_cumprod.double()
        alphas = torch.where(returned < 0, final, self._table[returned.clamp(min=0)])
        rescaled = None
        if self.spec.base_scale != 1.0:
            rescaled = (self.scale(returned.clamp(min=0)) / self.scale(given)).tolist()
        # CogVideoX's class takes the setting and does not clip.
        clips = "CogVideoX" not in type(scheduler).__name__ and config.clip_sample
        return Line(
            given=_pairs(self._table[given]),
            returned=_pairs(alphas),
            rescaled=rescaled,
            clip=float(config.clip_sample_range) if clips else None,
        )


def _levels(scheduler: Any) -> Tensor:
    return torch.cat([scheduler.timesteps.float(), torch.zeros(1)])


def _pairs(alphas_cumprod: Tensor) -> list[tuple[float, float]]:
    return list(zip(alphas_cumprod.sqrt().tolist(), (1 - alphas_cumprod).sqrt().tolist(), strict=True))


def _euler(scheduler: Any) -> Line:
    """Euler schedulers work on frames of alpha 1, which the base receives scaled to alpha² + sigma² = 1.

    The result is not scaled.
    """
    sigmas = scheduler.sigmas.double()[: len(scheduler.timesteps) + 1]
    pairs = _pairs(1 / (1 + sigmas**2))
    return Line(
        given=pairs[:-1],
        returned=[*pairs[1:-1], (1.0, float(sigmas[-1]))],
        first=float(scheduler.init_noise_sigma / (1 + sigmas[0] ** 2).sqrt()),
    )

"""A straight line from frame to noise (flow matching, arXiv 2210.02747)."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.noise.base import Noise
from v2w_convert.noise.grids import timesteps_arguments
from v2w_convert.noise.sampler import Line, LineSampler, Sampler, SolverSampler
from v2w_convert.noise.schedulers import build_scheduler, with_timesteps

if TYPE_CHECKING:
    from v2w_convert.noise.spec import NoiseSpec

UNKNOWN = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
MAX_MORE = 8  # steps that are tried where so few have no levels
CLEAR = 1e-3  # of a timestep: how far levels stay from where whole timesteps change


class Flow(Noise):
    """The level is the share of noise, 0 … 1; the base receives it times N.

    With `invert_sigmas` (Mochi) the scheduler counts the share of the frame instead: the base receives that times N,
    and predicts the way from noise to frame. With a multistep solver (UniPC, DPM-Solver++) it receives whole timesteps,
    rounded down.
    """

    max_level = 1.0

    def __init__(self, spec: "NoiseSpec"):
        super().__init__(spec)
        self.scheduler: Any = build_scheduler(spec.scheduler, UNKNOWN)
        config = self.scheduler.config
        self.timesteps = float(config.num_train_timesteps)
        self.inverted = bool(config.get("invert_sigmas", False))
        self.is_multistep = hasattr(self.scheduler, "lower_order_nums")

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - level, level

    def timestep(self, level: Tensor) -> Tensor:
        if self.inverted:
            return (1 - level) * self.timesteps
        timestep = level * self.timesteps
        if not self.is_multistep:
            return timestep
        return timestep + (timestep.floor() - timestep).detach()  # exactly rounded down; gradients pass

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        target = super().target(clean, noise, level)
        return -target if self.inverted else target

    def to_clean_and_noise(self, output: Tensor, noisy: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        return super().to_clean_and_noise(-output if self.inverted else output, noisy, level)

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        return torch.rand(shape, generator=generator)

    @property
    def training_shift(self) -> float | None:
        config = self.scheduler.config
        if config.get("use_dynamic_shifting", False):  # by the size of a clip, unless the plan says
            return None if self.spec.mu is None else math.exp(self.spec.mu)
        shift = config.get("shift", config.get("flow_shift"))
        return None if shift is None else float(shift)

    def inference_levels(self, steps: int, tokens: int | None = None) -> Tensor:
        return self._levels(self._with_timesteps(steps, tokens))

    def sampler(self, steps: int, tokens: int | None = None) -> Sampler:
        scheduler = self._with_timesteps(steps, tokens)
        levels = self._levels(scheduler)
        if self.is_multistep:
            return SolverSampler(levels, scheduler)
        pairs = [(1 - level, level) for level in levels.double().tolist()]
        line = Line(given=pairs[:-1], returned=pairs[1:], sign=-1 if self.inverted else 1)
        return LineSampler(levels, line, self.spec.prediction, self.data)

    def _levels(self, scheduler: Any) -> Tensor:
        levels: Tensor = scheduler.sigmas.float()
        if self.inverted:
            return 1 - levels
        if self.is_multistep:
            # Away from the next whole timestep, so that no rounding tells the base another one than the scheduler's.
            told = scheduler.timesteps.double()
            inside = (levels[:-1].double() * self.timesteps).clamp(told + CLEAR, told + 1 - CLEAR)
            levels = torch.cat([(inside / self.timesteps).float(), levels[-1:]])
        return levels

    def _with_timesteps(self, steps: int, tokens: int | None) -> Any:
        scheduler = self._scheduler_of(steps, tokens)
        if not _finite(scheduler):  # with `shift_terminal`, one step has no way to go (LTX-Video)
            more = range(steps + 1, steps + MAX_MORE + 1)
            least = next((n for n in more if _finite(self._scheduler_of(n, tokens))), None)
            name = type(self.scheduler).__name__
            raise V2WError(
                f"denoise in {steps} step{'s' if steps > 1 else ''}",
                f"its {name} has no such levels",
                "another scheduler" if least is None else f"{least} steps at least",
            )
        return scheduler

    def _scheduler_of(self, steps: int, tokens: int | None) -> Any:
        config, spec = self.scheduler.config, self.spec
        with np.errstate(invalid="ignore", divide="ignore"):
            return with_timesteps(
                self.scheduler, **timesteps_arguments(spec.grid, spec.mu, config, steps, tokens)
            )


def _finite(scheduler: Any) -> bool:
    return bool(scheduler.sigmas.isfinite().all())

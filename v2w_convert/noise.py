"""Noise of three kinds, one level per frame: how it is added, told to the base, and taken away.

A *noise level* is 0 for a clean frame and grows with the noise. Its unit is the kind's own:

    ddpm   the training timestep, 0 … N-1; level 0 is exactly clean      (DDPM, arXiv 2006.11239)
    edm    sigma, the noise's deviation beside data of deviation 1       (EDM, arXiv 2206.00364)
    flow   the share of noise, 0 … 1                                     (flow matching, arXiv 2210.02747)

Shapes: frames are (b t c h w), levels (b t). All formulas are written with a frame's signal and noise
amplitudes, `frame = signal * clean + deviation * noise`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Kind = Literal["ddpm", "edm", "flow"]
Prediction = Literal["epsilon", "v", "sample", "flow", "edm"]
MAX_TIMESTEPS = 100_000  # timesteps
RESCALE_TIMESTEPS = (
    399.0  # the timestep from which on the clean frames are scaled by `base_scale` (DynamiCrafter)
)


class NoiseSpec(BaseModel):
    """A kind of noise and what the base predicts; `scheduler` is a diffusers scheduler's config, where known.

    `edm` is what is left to predict after EDM's skip connection, of data of deviation `sigma_data` (table 1 there).

    base_scale  the clean frames are scaled down before noise is put on them, from 1 at level 0 on a line to this at
                level 399 and beyond; what the base should predict is of scaled frames (DynamiCrafter at 512 and 1024,
                `use_dynamic_rescale` in github.com/Doubiiu/DynamiCrafter, lvdm/models/ddpm3d.py). ddpm only
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Kind
    prediction: Prediction
    scheduler: dict[str, Any] = {}
    base_scale: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _scaled_by_timestep(self) -> "NoiseSpec":
        if self.base_scale != 1.0 and self.kind != "ddpm":
            raise ValueError(f"base_scale is of kind ddpm, not {self.kind}")
        return self

    @model_validator(mode="after")
    def _few_timesteps(self) -> "NoiseSpec":
        count = self.scheduler.get("num_train_timesteps", 1000)
        if type(count) is not int or not 1 < count <= MAX_TIMESTEPS:
            raise ValueError(f"num_train_timesteps is {count!r:.80}, not 2 to {MAX_TIMESTEPS}")
        return self

    def build(self) -> "Noise":
        kinds: dict[str, type[Ddpm] | type[Edm] | type[Flow]] = {"ddpm": Ddpm, "edm": Edm, "flow": Flow}
        return kinds[self.kind](self)


def noise_spec_from_scheduler(config: Mapping[str, Any]) -> NoiseSpec:
    """What a checkpoint's own scheduler config says of its noise; `base_scale` there is ours, not diffusers'."""
    config = dict(config)
    base_scale = config.pop("base_scale", 1.0)
    prediction: Any = {"v_prediction": "v", "epsilon": "epsilon", "sample": "sample"}.get(
        config.get("prediction_type", "epsilon"), "epsilon"
    )
    name = str(config.get("_class_name", ""))
    if "FlowMatch" in name or config.get("prediction_type") == "flow_prediction":
        return NoiseSpec(kind="flow", prediction="flow", scheduler=config)
    if "EDM" in name:
        return NoiseSpec(
            kind="edm", prediction="edm" if prediction == "epsilon" else prediction, scheduler=config
        )
    if config.get("timestep_type") == "continuous":
        return NoiseSpec(kind="edm", prediction=prediction, scheduler=config)
    return NoiseSpec(kind="ddpm", prediction=prediction, scheduler=config, base_scale=base_scale)


class Noise(ABC):
    """One kind of noise. `loudest` is the level at which nothing of the frame is left to see."""

    max_level: float
    data: float = 1.0  # the frames' deviation, as EDM's formulas have it

    def __init__(self, spec: NoiseSpec):
        self.spec = spec

    @abstractmethod
    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and deviation, both of the level's shape (b t) and of its floating dtype."""

    @abstractmethod
    def timestep(self, level: Tensor) -> Tensor:
        """The number (b t) by which the base is told the level."""

    @abstractmethod
    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        """Levels as in training, float32 on the CPU."""

    @abstractmethod
    def inference_levels(self, steps: int) -> Tensor:
        """Levels (steps + 1,) from the loudest to 0, float32: the grid of the matching diffusers scheduler."""

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """`clean` with `noise` on it. With the noise that a model found, one deterministic sampling step.

        (DDIM with eta 0, Euler for the other kinds: all three follow the line from noise to frame.)
        """
        return weighted_sum(self.alpha_sigma(_wide(level, clean)), (clean, noise))

    def model_input(self, noisy: Tensor, level: Tensor) -> Tensor:
        """What the base is given in place of the noisy frames."""
        return noisy

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the base should predict."""
        match self.spec.prediction:
            case "epsilon":
                return noise
            case "sample":
                return clean
            case "flow":
                return noise - clean
            case "v":
                signal, deviation = self.alpha_sigma(_wide(level, clean))
                size = (signal**2 + deviation**2).sqrt()
                return weighted_sum((signal / size, -deviation / size), (noise, clean))
            case "edm":
                data, sigma = self.data, _wide(level, clean)
                size = (sigma**2 + data**2).sqrt()
                return weighted_sum((sigma / (data * size), -data / size), (clean, noise))
        raise AssertionError(self.spec.prediction)

    def to_clean_and_noise(self, output: Tensor, noisy: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The clean frames and the noise that the base's `output` says `noisy` is made of."""
        signal, deviation = self.alpha_sigma(_wide(level, noisy))
        both = (noisy, output)
        match self.spec.prediction:
            case "epsilon":
                return weighted_sum((1 / signal, -deviation / signal), both), output
            case "sample":
                return output, weighted_sum((1 / deviation, -signal / deviation), both)
            case "flow":
                one = torch.ones_like(signal)
                return weighted_sum((one, -deviation), both), weighted_sum((one, signal), both)
            case "v":
                power = signal**2 + deviation**2
                size = power.sqrt()
                clean = weighted_sum((signal / power, -deviation / size), both)
                return clean, weighted_sum((deviation / power, signal / size), both)
            case "edm":
                data, sigma = self.data, deviation
                power = sigma**2 + data**2
                size = power.sqrt()
                clean = weighted_sum((data**2 / power, sigma * data / size), both)
                return clean, weighted_sum((sigma / power, -data / size), both)
        raise AssertionError(self.spec.prediction)


def _wide(level: Tensor, frames: Tensor) -> Tensor:
    """The level in at least float32: the square of EDM's loudest sigma is too large for float16."""
    return level.to(torch.promote_types(frames.dtype, torch.float32))


def weighted_sum(weights: tuple[Tensor, ...], frames: tuple[Tensor, ...]) -> Tensor:
    """The sum of frames (b t c h w), each times its weights (b t), in the frames' dtype."""
    return sum(w.to(x.dtype)[..., None, None, None] * x for w, x in zip(weights, frames, strict=True))  # type: ignore[return-value]


class Ddpm(Noise):
    """A table of N training timesteps; the model is told the timestep.

    With a `base_scale` the frames that noise is put on, and that the base predicts, are scaled ones.
    """

    def __init__(self, spec: NoiseSpec):
        super().__init__(spec)
        # Trailing: sampling begins where the frame is noisiest, and never asks for the clean level 0.
        self.scheduler: Any = DDIMScheduler.from_config({**spec.scheduler, "timestep_spacing": "trailing"})
        share = self.scheduler.alphas_cumprod.double().clone()
        share[0] = 1.0  # level 0 is clean; the table's first entry (0.99998 or so) stands for it
        self._alphas_cumprod = share
        self.max_level = float(len(share) - 1)

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        share = self._alphas_cumprod.to(level.device)[level.long()]
        return share.sqrt().to(level.dtype), (1 - share).sqrt().to(level.dtype)

    def scale(self, level: Tensor) -> Tensor:
        """What clean frames are multiplied by at a level (b t): 1 for clean ones."""
        return 1 + (self.spec.base_scale - 1) * (level / RESCALE_TIMESTEPS).clamp(max=1)

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return super().add_noise(self._scaled(clean, level), noise, level)

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return super().target(self._scaled(clean, level), noise, level)

    def to_clean_and_noise(self, output: Tensor, noisy: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        scaled, noise = super().to_clean_and_noise(output, noisy, level)
        if self.spec.base_scale == 1.0:
            return scaled, noise
        return weighted_sum((1 / self.scale(_wide(level, noisy)),), (scaled,)), noise

    def _scaled(self, clean: Tensor, level: Tensor) -> Tensor:
        if self.spec.base_scale == 1.0:
            return clean
        return weighted_sum((self.scale(_wide(level, clean)),), (clean,))

    def timestep(self, level: Tensor) -> Tensor:
        return level

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        return torch.randint(len(self._alphas_cumprod), shape, generator=generator).float()

    def inference_levels(self, steps: int) -> Tensor:
        self.scheduler.set_timesteps(steps)
        return torch.cat([self.scheduler.timesteps.float(), torch.zeros(1)])


class Edm(Noise):
    """Variance exploding noise; the model is told 0.25 log sigma and given frames of unit size (or of deviation 1)."""

    mean, spread = (
        0.7,
        1.6,
    )  # of log sigma in training: Stable Video Diffusion's (arXiv 2311.15127, appendix D)

    def __init__(self, spec: NoiseSpec):
        super().__init__(spec)
        usual: dict[str, Any] = {
            "timestep_type": "continuous",
            "sigma_min": 0.002,
            "sigma_max": 700.0,
            "use_karras_sigmas": True,
            "prediction_type": "v_prediction",
        }
        self.scheduler: Any = EulerDiscreteScheduler.from_config({**usual, **spec.scheduler})
        if spec.prediction == "edm":
            self.data = float(spec.scheduler.get("sigma_data", 0.5))
        self.min_level = float(self.scheduler.config.sigma_min or usual["sigma_min"])
        self.max_level = float(self.scheduler.config.sigma_max or usual["sigma_max"])

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level), level

    def timestep(self, level: Tensor) -> Tensor:
        return 0.25 * level.clamp(min=self.min_level).log()  # a clean frame is told as the quietest level

    def model_input(self, noisy: Tensor, level: Tensor) -> Tensor:
        sigma = _wide(level, noisy)
        return weighted_sum((1 / (sigma**2 + self.data**2).sqrt(),), (noisy,))

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        return (self.mean + self.spread * torch.randn(shape, generator=generator)).exp()

    def inference_levels(self, steps: int) -> Tensor:
        self.scheduler.set_timesteps(steps)
        return self.scheduler.sigmas.float()


class Flow(Noise):
    """A straight line from frame to noise; the model is told the share of noise times N."""

    max_level = 1.0

    def __init__(self, spec: NoiseSpec):
        super().__init__(spec)
        self.scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(spec.scheduler)
        self.timesteps = float(self.scheduler.config.num_train_timesteps)

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - level, level

    def timestep(self, level: Tensor) -> Tensor:
        return level * self.timesteps

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        return torch.rand(shape, generator=generator)

    def inference_levels(self, steps: int) -> Tensor:
        self.scheduler.set_timesteps(steps)
        return self.scheduler.sigmas.float()

"""Noise of three kinds, one level per frame: how it is added, which timestep the base receives, how it is removed.

A *noise level* is 0 for a clean frame and grows with the noise. Its unit is the kind's own:

    ddpm   the training timestep, 0 … N-1; level 0 is exactly clean           (DDPM, arXiv 2006.11239)
    edm    sigma, the noise's standard deviation, of data with deviation 1    (EDM, arXiv 2206.00364)
    flow   the fraction of noise, 0 … 1                                       (flow matching, arXiv 2210.02747)

Shapes: frames are (b t c h w), levels (b t). All formulas are written with a frame's alpha and sigma,
`frame = alpha * clean + sigma * noise`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor

Prediction = Literal["epsilon", "v", "sample", "flow", "edm"]
MAX_TIMESTEPS = 100_000
RESCALE_TIMESTEPS = 399.0  # from this timestep on, clean frames are scaled by `base_scale` (DynamiCrafter)


class NoiseSpec(BaseModel):
    """A kind of noise, and what the base predicts of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str = Field(
        description="`ddpm`: the level is a training timestep; `edm`: it is sigma; `flow`: it is the fraction of noise."
    )
    prediction: Prediction = Field(
        description="What the base predicts: the noise (`epsilon`), the clean frame (`sample`), `v`, the `flow` from "
        "clean frame to noise, or what EDM's skip connection leaves to predict, of data with deviation `sigma_data` "
        "(`edm`, arXiv 2206.00364, table 1)."
    )
    scheduler: dict[str, Any] = Field(
        default={},
        description="The config of a diffusers scheduler, where known. A checkpoint's own replaces it.",
    )
    base_scale: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Clean frames are scaled before noise is added, linearly from 1 at level 0 to this at level 399 "
        "and beyond; the base predicts scaled frames (DynamiCrafter at 512 and 1024, `use_dynamic_rescale` in "
        "github.com/Doubiiu/DynamiCrafter, lvdm/models/ddpm3d.py). ddpm only.",
    )

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"there is no kind of noise {kind!r:.80}; there are {', '.join(KINDS)}")
        return kind

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
        """The noise of this kind."""
        return KINDS[self.kind](self)


def noise_spec_from_scheduler(config: Mapping[str, Any]) -> NoiseSpec:
    """The noise that a checkpoint's own scheduler config describes; `base_scale` in it is ours, not diffusers'."""
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
    """One kind of noise.

    Attributes:
        spec: What it is built from.
        max_level: The level at which nothing of the frame is left to see.
        data: The frames' standard deviation, as EDM's formulas have it.
    """

    max_level: float
    data: float = 1.0

    def __init__(self, spec: NoiseSpec):
        self.spec = spec

    @abstractmethod
    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, both of the level's shape (b t) and of its floating dtype."""

    @abstractmethod
    def timestep(self, level: Tensor) -> Tensor:
        """The number (b t) that the base receives for the level."""

    @abstractmethod
    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        """Random levels as in training, float32 on the CPU."""

    @abstractmethod
    def inference_levels(self, steps: int) -> Tensor:
        """Levels (steps + 1,) from the largest to 0, float32: the grid of the matching diffusers scheduler."""

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """`clean` with `noise` added. With the noise that a model predicts, one deterministic sampling step.

        (DDIM with eta 0, Euler for the other kinds: all three follow the line from noise to frame.)
        """
        return weighted_sum(self.alpha_sigma(_wide(level, clean)), (clean, noise))

    def model_input(self, noisy: Tensor, level: Tensor) -> Tensor:
        """What the base receives in place of the noisy frames."""
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
                alpha, sigma = self.alpha_sigma(_wide(level, clean))
                size = (alpha**2 + sigma**2).sqrt()
                return weighted_sum((alpha / size, -sigma / size), (noise, clean))
            case "edm":
                data, sigma = self.data, _wide(level, clean)
                size = (sigma**2 + data**2).sqrt()
                return weighted_sum((sigma / (data * size), -data / size), (clean, noise))
        raise AssertionError(self.spec.prediction)

    def to_clean_and_noise(self, output: Tensor, noisy: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The clean frames and the noise that the base's `output` says `noisy` is made of."""
        alpha, sigma = self.alpha_sigma(_wide(level, noisy))
        both = (noisy, output)
        match self.spec.prediction:
            case "epsilon":
                return weighted_sum((1 / alpha, -sigma / alpha), both), output
            case "sample":
                return output, weighted_sum((1 / sigma, -alpha / sigma), both)
            case "flow":
                one = torch.ones_like(alpha)
                return weighted_sum((one, -sigma), both), weighted_sum((one, alpha), both)
            case "v":
                power = alpha**2 + sigma**2
                size = power.sqrt()
                clean = weighted_sum((alpha / power, -sigma / size), both)
                return clean, weighted_sum((sigma / power, alpha / size), both)
            case "edm":
                data = self.data
                power = sigma**2 + data**2
                size = power.sqrt()
                clean = weighted_sum((data**2 / power, sigma * data / size), both)
                return clean, weighted_sum((sigma / power, -data / size), both)
        raise AssertionError(self.spec.prediction)


def _wide(level: Tensor, frames: Tensor) -> Tensor:
    """The level in at least float32: the square of EDM's largest sigma is too large for float16."""
    return level.to(torch.promote_types(frames.dtype, torch.float32))


def weighted_sum(weights: tuple[Tensor, ...], frames: tuple[Tensor, ...]) -> Tensor:
    """The sum of frames (b t c h w), each times its weights (b t), in the frames' dtype."""
    return sum(w.to(x.dtype)[..., None, None, None] * x for w, x in zip(weights, frames, strict=True))  # type: ignore[return-value]


class Ddpm(Noise):
    """A table of N training timesteps; the base receives the timestep.

    With a `base_scale` the frames that noise is added to, and that the base predicts, are scaled ones.
    """

    def __init__(self, spec: NoiseSpec):
        super().__init__(spec)
        # Trailing: sampling begins at the largest level, and never denoises at the clean level 0.
        self.scheduler: Any = DDIMScheduler.from_config({**spec.scheduler, "timestep_spacing": "trailing"})
        alphas_cumprod = self.scheduler.alphas_cumprod.double().clone()
        alphas_cumprod[0] = 1.0  # level 0 is clean, in place of the table's first entry (0.99998 or so)
        self._alphas_cumprod = alphas_cumprod
        self.max_level = float(len(alphas_cumprod) - 1)

    def alpha_sigma(self, level: Tensor) -> tuple[Tensor, Tensor]:
        alphas_cumprod = self._alphas_cumprod.to(level.device)[level.long()]
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
    """Variance exploding noise; the base receives 0.25 log sigma, and frames scaled to unit size."""

    # Of log sigma in training: Stable Video Diffusion's (arXiv 2311.15127, appendix D).
    mean = 0.7
    std = 1.6

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
        return 0.25 * level.clamp(min=self.min_level).log()  # a clean frame has the smallest level's timestep

    def model_input(self, noisy: Tensor, level: Tensor) -> Tensor:
        sigma = _wide(level, noisy)
        return weighted_sum((1 / (sigma**2 + self.data**2).sqrt(),), (noisy,))

    def sample_training_levels(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        return (self.mean + self.std * torch.randn(shape, generator=generator)).exp()

    def inference_levels(self, steps: int) -> Tensor:
        self.scheduler.set_timesteps(steps)
        levels: Tensor = self.scheduler.sigmas.float()
        return levels


class Flow(Noise):
    """A straight line from frame to noise; the base receives the fraction of noise times N."""

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
        levels: Tensor = self.scheduler.sigmas.float()
        return levels


KINDS: dict[str, type[Noise]] = {"ddpm": Ddpm, "edm": Edm, "flow": Flow}
"""Every kind of noise by its name in plans."""

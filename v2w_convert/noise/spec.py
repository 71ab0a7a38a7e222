"""A kind of noise, as plans name it."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from v2w_convert.noise.base import Noise
from v2w_convert.noise.grids import Grid
from v2w_convert.noise.kinds import KINDS
from v2w_convert.noise.predictions import Prediction

MAX_TIMESTEPS = 100_000
MAX_NUMBER = 1_000_000  # in a scheduler's config: a solver keeps as many outputs as its order is


class NoiseSpec(BaseModel):
    """A kind of noise, and what the base predicts of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str = Field(
        description="`ddpm`: the level is a training timestep; `edm`: it is sigma; `flow`: it is the share of noise."
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
    other_kinds: tuple[str, ...] = Field(
        default=(),
        description="Kinds that a checkpoint's scheduler may name in place of `kind`, because models of this class "
        "are trained with them, too. Any other kind is refused.",
    )
    grid: Grid = Field(
        default="scheduler",
        description="What the family's pipeline gives its flow scheduler: the number of steps (`scheduler`), sigmas "
        "that fall evenly from 1 (`linear`), or Mochi's (`linear_quadratic`).",
    )
    mu: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="The shift that the family's pipeline gives a scheduler with `use_dynamic_shifting`. Without it, "
        "the shift follows from the clip's number of latent tokens.",
    )
    log_sigma: tuple[float, float] | None = Field(
        default=None,
        description="Mean and standard deviation of log sigma in training. edm only; by default Stable Video "
        "Diffusion's, 0.7 and 1.6.",
    )
    base_scale: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Clean frames are scaled before noise is added, linearly from 1 at level 0 to this at level 399 "
        "and beyond; the base predicts scaled frames (DynamiCrafter at 512 and 1024, `use_dynamic_rescale` in "
        "github.com/Doubiiu/DynamiCrafter, lvdm/models/ddpm3d.py). ddpm only.",
    )

    @field_validator("kind", "other_kinds")
    @classmethod
    def _known_kind(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for kind in (value,) if isinstance(value, str) else value:
            if kind not in KINDS:
                raise ValueError(f"there is no kind of noise {kind!r:.80}; there are {', '.join(KINDS)}")
        return value

    @field_validator("scheduler")
    @classmethod
    def _finite(cls, value: dict[str, Any]) -> dict[str, Any]:
        # diffusers writes this default into the file; JSON cannot hold it.
        said = {k: v for k, v in value.items() if (k, v) != ("lambda_min_clipped", -math.inf)}
        for key, entry in said.items():
            numbers = entry if isinstance(entry, list | tuple) else [entry]
            if any(isinstance(n, int | float) and not abs(n) <= MAX_NUMBER for n in numbers):
                raise ValueError(f"{key:.80} is not finite, or over {MAX_NUMBER}")
        return said

    @model_validator(mode="after")
    def _of_its_kind(self) -> "NoiseSpec":
        for name, kind in (("base_scale", "ddpm"), ("log_sigma", "edm"), ("grid", "flow"), ("mu", "flow")):
            if self.kind != kind and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of kind {kind}, not {self.kind}")
        if self.log_sigma is not None and not (abs(self.log_sigma[0]) <= 10 and 0 < self.log_sigma[1] <= 10):
            raise ValueError("log_sigma is a mean of -10 to 10 and a standard deviation of up to 10")
        return self

    @model_validator(mode="after")
    def _few_timesteps(self) -> "NoiseSpec":
        count = self.scheduler.get("num_train_timesteps", 1000)
        if type(count) is not int or not 1 < count <= MAX_TIMESTEPS:
            raise ValueError(f"num_train_timesteps is {count!r:.80}, not 2 to {MAX_TIMESTEPS}")
        return self

    def build(self) -> Noise:
        """The noise of this kind."""
        return KINDS[self.kind](self)

"""Settings of `rollout` and `evaluate`. Nothing heavy is imported here: the command line reads its flags from them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class SamplingSettings(BaseModel):
    """How frames are generated, whatever is done with them afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int = Field(default=10, ge=1, description="denoising steps per block")
    guidance: float = Field(
        default=1.0, allow_inf_nan=False, description="action guidance scale; 1 turns guidance off"
    )
    context_noise: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="noise level that observed and generated history is given, in the unit of the model's "
        "noise; 0 is clean; without it, the cleanest level that training visits",
    )
    history: int | None = Field(
        default=None,
        ge=1,
        description="observed video frames before the generated ones; without it 8, or the next number that "
        "the model can take",
    )
    seed: int = Field(default=0, ge=0, description="seed of all random numbers")
    camera: str | None = Field(default=None, description="camera of the data set, where it has several")
    device: str = Field(default="auto", description="where to compute: auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="number format of the denoiser; the autoencoder runs in float32"
    )


class RolloutSettings(SamplingSettings):
    """What `rollout` generates and shows."""

    episode: int = Field(default=0, ge=0, description="episode of the data set to start from, counted from 0")
    frames: int = Field(default=32, ge=1, description="video frames to generate")
    prompt: str | None = Field(
        default=None, description="prompt, by the base's own encoders; default: as the model was finetuned"
    )


class EvaluateSettings(SamplingSettings):
    """What `evaluate` measures. All lengths are in video frames."""

    horizons: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 4, 8, 16), min_length=1, description="frames ahead at which PSNR and SSIM are measured"
    )
    samples: int = Field(
        default=4, ge=1, description="rollouts per clip, whose mean is measured beside a single one"
    )
    episodes: int | None = Field(
        default=None, ge=2, description="use only the first episodes of the data set, this many"
    )
    classifier_data: Path | None = Field(
        default=None, description="other episodes, to train the inverse-dynamics classifier on"
    )
    long_frames: int = Field(
        default=200, ge=0, description="length of the rollouts for long-horizon stability; 0 skips them"
    )
    long_rollouts: int = Field(default=8, ge=1, description="number of rollouts for long-horizon stability")

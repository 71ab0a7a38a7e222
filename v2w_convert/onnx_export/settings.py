"""Settings of `export`. Nothing heavy is imported here: the command line reads its flags from them."""

from pydantic import BaseModel, ConfigDict, Field


class ExportSettings(BaseModel):
    """What graph is written, and how it is compared with torch."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    batch: int = Field(default=1, ge=1, description="rollouts side by side")
    height: int | None = Field(
        default=None, ge=1, description="height of the latents; without it the model's own (sample_size)"
    )
    width: int | None = Field(
        default=None, ge=1, description="width of the latents; without it the model's own (sample_size)"
    )
    window: int | None = Field(
        default=None,
        ge=1,
        description="latent frames that attention sees, the present block included, where the plan has no "
        "window",
    )
    check: bool = Field(default=True, description="compare a rollout by onnxruntime with one by torch")
    frames: int = Field(
        default=32,
        ge=1,
        description="latent frames of that rollout; more than the window, so that every slot of the KV cache "
        "is overwritten",
    )
    steps: int = Field(default=4, ge=1, description="denoising steps per block of that rollout")
    keep: bool = Field(default=False, description="keep the file even if it differs from torch")

"""Settings of `export`. Nothing heavy is imported here: the command line reads its flags from them."""

from pydantic import Field

from v2w_convert.settings import Count, Settings, Size


class ExportSettings(Settings):
    """What graph is written, and how it is compared with torch."""

    batch: Size = Field(default=1, description="rollouts side by side")
    height: Size | None = Field(
        default=None, description="height of the latents; without it the model's own (sample_size)"
    )
    width: Size | None = Field(
        default=None, description="width of the latents; without it the model's own (sample_size)"
    )
    window: Count | None = Field(
        default=None,
        description="latent frames that attention sees, the present block included, where the plan has no "
        "window",
    )
    check: bool = Field(default=True, description="compare a rollout by onnxruntime with one by torch")
    frames: Count = Field(
        default=32,
        description="latent frames of that rollout; more than the window, so that every slot of the KV cache "
        "is overwritten",
    )
    steps: Count = Field(default=4, description="denoising steps per block of that rollout")
    keep: bool = Field(default=False, description="keep the file even if it differs from torch")

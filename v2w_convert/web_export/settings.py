"""Settings of `export --web`. Nothing heavy is imported here: the command line reads its flags from them."""

from pydantic import Field

from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.settings import MAX_SCALE, Count, Scale


class WebSettings(ExportSettings):
    """What a page starts from, and how it samples. `steps` are those that it begins with; its reader may choose others."""

    history: Count | None = Field(
        default=None, description="with --web: observed frames before the generated ones; without it 8"
    )
    starts: int = Field(
        default=6,
        ge=1,
        le=64,
        description="with --web: episodes of the data, evenly spaced, whose first frames a visitor can start from",
    )
    guidance: float = Field(
        default=1.0,
        ge=-MAX_SCALE,
        le=MAX_SCALE,
        description="with --web: action guidance scale; 1 turns guidance off",
    )
    context_noise: Scale | None = Field(
        default=None,
        description="with --web: noise level that history is given; without it, the cleanest level that training "
        "visits",
    )
    webgpu: bool = Field(
        default=False,
        description="with --web: add onnxruntime's WebGPU build, which browsers that have WebGPU can choose",
    )

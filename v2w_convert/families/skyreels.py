"""SkyReels V2 with sample info: the clip's frame rate (diffusers, pipeline_skyreels_v2_diffusion_forcing.py)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

FAST = 1  # 24 frames per second, the pipeline's default; 0 stands for 16


def arguments(
    config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor
) -> dict[str, Any]:
    """More arguments of the forward: `fps`, one for all clips. Parameters as in `v2w_convert.families.Computed`."""
    return {"fps": [FAST]} if config["inject_sample_info"] else {}

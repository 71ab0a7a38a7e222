"""Kandinsky 5: positions of patches and of the prompt's tokens (diffusers, pipelines/kandinsky5/pipeline_kandinsky.py)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

PIXELS = 8  # along a side of a latent


def arguments(
    config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor
) -> dict[str, Any]:
    """More arguments of the forward: positions, and by how much they are divided. Parameters as in `v2w_convert.families.Computed`."""
    _, down, across = config["patch_size"]
    positions = [torch.arange(n, device=like.device) for n in (t, h // down, w // across)]
    return {
        "visual_rope_pos": positions,
        "text_rope_pos": torch.arange(text.shape[1], device=like.device),
        "scale_factor": scale_factor(PIXELS * h, PIXELS * w),
    }


def scale_factor(height: int, width: int) -> tuple[float, float, float]:
    """What positions in time, down and across are divided by, for pictures of that size: `_get_scale_factor` of the pipeline."""
    medium = all(480 <= side <= 854 for side in (height, width))
    return (1.0, 2.0, 2.0) if medium else (1.0, 3.16, 3.16)

"""Kandinsky 5: positions of patches and of the prompt's tokens (diffusers, pipelines/kandinsky5/pipeline_kandinsky.py)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def arguments(
    config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor
) -> dict[str, Any]:
    """More arguments of the forward: positions. Parameters as in `v2w_convert.families.Computed`."""
    _, down, across = config["patch_size"]
    positions = [torch.arange(n, device=like.device) for n in (t, h // down, w // across)]
    return {"visual_rope_pos": positions, "text_rope_pos": torch.arange(text.shape[1], device=like.device)}

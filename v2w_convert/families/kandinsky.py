"""Kandinsky 5: places of patches and of the prompt's tokens (diffusers, pipelines/kandinsky5/pipeline_kandinsky.py)."""

from typing import Any

import torch
from torch import Tensor


def arguments(config: dict[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor) -> dict[str, Any]:
    _, down, across = config["patch_size"]
    places = [torch.arange(n, device=like.device) for n in (t, h // down, w // across)]
    return {"visual_rope_pos": places, "text_rope_pos": torch.arange(text.shape[1], device=like.device)}

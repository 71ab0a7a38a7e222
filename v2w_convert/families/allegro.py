"""Allegro: rotary tables and positions for a grid of patches (diffusers, pipelines/allegro/pipeline_allegro.py)."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed_allegro
from torch import Tensor


def arguments(
    config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor
) -> dict[str, Any]:
    """More arguments of the forward: `image_rotary_emb`. Parameters as in `v2w_convert.families.Computed`."""
    patch = config["patch_size"]
    scale = (
        config["interpolation_scale_t"],
        config["interpolation_scale_h"],
        config["interpolation_scale_w"],
    )
    *tables, in_time, down, across = get_3d_rotary_pos_embed_allegro(
        embed_dim=config["attention_head_dim"],
        crops_coords=((0, 0), (h // patch, w // patch)),
        grid_size=(h // patch, w // patch),
        temporal_size=t,
        interpolation_scale=scale,
        device=like.device,
    )
    grid = torch.meshgrid(in_time.long(), down.long(), across.long(), indexing="ij")
    return {"image_rotary_emb": (tuple(tables), tuple(torch.stack(grid).flatten(1)[:, None]))}

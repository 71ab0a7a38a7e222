"""CogVideoX: rotary tables for a grid of patches (diffusers, pipelines/cogvideo/pipeline_cogvideox.py)."""

from typing import Any

from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor


def arguments(config: dict[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor) -> dict[str, Any]:
    patch, pair = config["patch_size"], config["patch_size_t"]
    grid = (h // patch, w // patch)
    trained = (config["sample_height"] // patch, config["sample_width"] // patch)
    if pair is None:
        crop = get_resize_crop_region_for_grid(grid, trained[1], trained[0])
        more: dict[str, Any] = {"crops_coords": crop, "temporal_size": t}
    else:
        more = {
            "crops_coords": None,
            "temporal_size": (t + pair - 1) // pair,
            "grid_type": "slice",
            "max_size": trained,
        }
    width = config["attention_head_dim"]
    return {"image_rotary_emb": get_3d_rotary_pos_embed(width, grid_size=grid, device=like.device, **more)}

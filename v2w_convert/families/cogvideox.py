"""CogVideoX: rotary tables for a grid of patches (diffusers, pipelines/cogvideo/pipeline_cogvideox.py)."""

from collections.abc import Mapping
from typing import Any

from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor


def arguments(
    config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor
) -> dict[str, Any]:
    """More arguments of the forward: `image_rotary_emb`. Parameters as in `v2w_convert.families.Computed`."""
    patch = config["patch_size"]
    grid = (h // patch, w // patch)
    trained = (config["sample_height"] // patch, config["sample_width"] // patch)
    width, packed = config["attention_head_dim"], config["patch_size_t"]
    if packed is None:
        corners = covered(grid, trained)
        tables = get_3d_rotary_pos_embed(width, corners, grid, temporal_size=t, device=like.device)
    else:  # CogVideoX 1.5: positions as they are, not stretched
        tables = get_3d_rotary_pos_embed(
            width,
            None,
            grid,
            temporal_size=t // packed,
            grid_type="slice",
            max_size=trained,
            device=like.device,
        )
    return {"image_rotary_emb": tables}


def covered(grid: tuple[int, int], trained: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The corners of the region of the trained grid that `grid` covers, both (rows, columns): as large as fits, centred."""
    (rows, columns), (high, wide) = grid, trained
    if rows / columns > high / wide:
        size = high, round(high / rows * columns)
    else:
        size = round(wide / columns * rows), wide
    top, left = round((high - size[0]) / 2), round((wide - size[1]) / 2)
    return (top, left), (top + size[0], left + size[1])

"""Cosmos 1.0: a padding mask, one for all clips (diffusers, pipelines/cosmos/pipeline_cosmos_text2world.py)."""

from collections.abc import Mapping
from typing import Any

from diffusers.utils import is_torchvision_available
from torch import Tensor

from v2w_convert.errors import V2WError

PIXELS = 8  # along a side of a latent


def arguments(
    config: Mapping[str, Any], t: int, h: int, w: int, text: Tensor, like: Tensor
) -> dict[str, Any]:
    """More arguments of the forward: `padding_mask`. Parameters as in `v2w_convert.families.Computed`.

    Raises:
        V2WError: There is no torchvision, by which diffusers' model resizes the mask.
    """
    if config["concat_padding_mask"] and not is_torchvision_available():
        raise V2WError(
            "call a CosmosTransformer3DModel with a padding mask",
            "diffusers resizes it by torchvision, which is not installed",
            "pip install torchvision, of the release that belongs to your torch",
        )
    return {"padding_mask": like.new_zeros(1, 1, PIXELS * h, PIXELS * w)}

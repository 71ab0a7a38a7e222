"""An LDM's autoencoder as diffusers' AutoencoderKL: other names for the same tensors.

Names of the source: github.com/CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py. Its one-by-one
convolutions of attention are matrices in diffusers, of the same bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from v2w_convert.checkpoint.headers import TensorInfo

SCALE = 0.18215  # latents times this are of deviation 1: the releases' scale_factor, which no tensor tells
GROUPS = 32  # of every norm, in the source
MIDDLE = {
    "block_1": "resnets.0",
    "block_2": "resnets.1",
    "attn_1.norm": "attentions.0.group_norm",
    "attn_1.q": "attentions.0.to_q",
    "attn_1.k": "attentions.0.to_k",
    "attn_1.v": "attentions.0.to_v",
    "attn_1.proj_out": "attentions.0.to_out.0",
}


def to_diffusers(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    """config.json and tensors of the AutoencoderKL that has these tensors, named as in an LDM.

    Raises:
        ValueError: Naming the key, where it is none that AutoencoderKL can be.
    """
    widths: list[int] = []
    while (block := f"encoder.down.{len(widths)}.block.0.conv1.weight") in tensors:
        widths.append(tensors[block].shape[0])
    depth = sum(bool(re.fullmatch(r"encoder\.down\.0\.block\.\d+\.conv1\.weight", name)) for name in tensors)
    needed = ("encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    missing = [name for name in (*needed, "encoder.down.0.block.0.conv1.weight") if name not in tensors]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    shapes = [tensors[name].shape for name in needed]
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(f"{', '.join(needed)} are not of four sizes each")
    config = {
        "_class_name": "AutoencoderKL",
        "in_channels": shapes[0][1],
        "out_channels": shapes[2][0],
        "latent_channels": shapes[1][1],
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": depth,
        "act_fn": "silu",
        "norm_num_groups": GROUPS,
        "use_quant_conv": "quant_conv.weight" in tensors,
        "use_post_quant_conv": "post_quant_conv.weight" in tensors,
        "scaling_factor": SCALE,
    }
    return config, {diffusers_name(name, len(widths)): _matrix(name, info) for name, info in tensors.items()}


def diffusers_name(name: str, levels: int) -> str:
    """What diffusers calls the tensor `name`; decoders count their `levels` from the other end."""

    def middle(found: re.Match[str]) -> str:
        return f"mid_block.{MIDDLE[found[1]]}."

    def up(found: re.Match[str]) -> str:
        return f"decoder.up_blocks.{levels - 1 - int(found[1])}."

    name = re.sub(rf"\bmid\.({'|'.join(map(re.escape, MIDDLE))})\.", middle, name)
    name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)
    name = re.sub(r"^decoder\.up\.(\d+)\.", up, name)
    name = re.sub(r"\.block\.(\d+)\.", r".resnets.\1.", name)
    name = name.replace(".nin_shortcut.", ".conv_shortcut.").replace(
        "coder.norm_out.", "coder.conv_norm_out."
    )
    return re.sub(r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv.", name)


def _matrix(name: str, info: TensorInfo) -> TensorInfo:
    one_by_one = ".attn_1." in name and info.shape[2:] == (1, 1)
    return replace(info, shape=info.shape[:2]) if one_by_one else info

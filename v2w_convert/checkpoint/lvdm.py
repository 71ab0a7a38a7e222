"""The config of a DynamiCrafter checkpoint, inferred from its tensors: denoiser and noise schedule.

Layout: the denoiser of LVDM (github.com/Doubiiu/DynamiCrafter, lvdm/modules/networks/openaimodel3d.py) in the names
that its own module has, schedule and all else as ddpm3d.py registers them.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from v2w_convert.checkpoint.headers import TensorInfo

DYNAMICRAFTER_CLASS, VID2WORLD_CLASS = "DynamiCrafterUNet", "Vid2WorldUNet"
HEADS = 8  # of init_attn, in the source; its width then tells the width of a head
QUERIES = 16  # of the image's projection, for each frame
INFIX = re.compile(r"\.conv[23]d\.(weight|bias)$")
RENAMED = {"framestride_embed.": "fps_embedding."}  # in older checkpoints
# The frame rate (in the first model: the stride) that each release was trained with, by what distinguishes the releases.
DEFAULT_STRIDE = 3
FS_BY_SCALE = {0.7: 24, 0.3: 10}
VID2WORLD_FS = 3  # what every model that Vid2World trained receives
BETAS = (0.00085, 0.012)  # ends of every release's table
RESCALE_STEPS = (
    400  # timesteps over which the clean frames' scale falls to its base: noise.RESCALE_TIMESTEPS + 1
)


def unet_config(tensors: Mapping[str, TensorInfo], default_fs: int, temporal_length: int) -> dict[str, Any]:
    """config.json of a denoiser with these tensors.

    Raises:
        ValueError: Naming the key, where one is not there that tells.
    """
    blocks: dict[int, set[str]] = {}
    for name in tensors:
        if found := re.match(r"input_blocks\.(\d{1,3})\.(\d\.\w+)\.", name):
            blocks.setdefault(int(found[1]), set()).add(found[2])
    width = _shape(tensors, "input_blocks.0.0.weight", 4)[0]
    level: list[int] = []  # widths of the residual blocks between two changes of resolution
    levels, attended = [level], set()
    for index in sorted(blocks.keys() - {0}):
        if "0.op" in blocks[index]:
            levels.append(level := [])
            continue
        level.append(_shape(tensors, f"input_blocks.{index}.0.in_layers.2.weight", 4)[0])
        if "1.transformer_blocks" in blocks[index]:
            attended.add(2 ** (len(levels) - 1))
    if len({len(level) for level in levels}) > 1 or any(len(set(level)) != 1 for level in levels):
        raise ValueError(f"input_blocks: widths {levels}, not one for every resolution")
    if any(level[0] % width for level in levels):
        raise ValueError(
            f"input_blocks: widths {levels} are not multiples of input_blocks.0.0.weight's {width}"
        )
    inner = _shape(tensors, "init_attn.0.proj_in.weight", 3)[0]
    attention = "transformer_blocks.0.attn2.to_k_ip.weight"
    context = next((name for name in tensors if name.endswith(attention)), f"input_blocks.1.1.{attention}")
    return {
        "_class_name": DYNAMICRAFTER_CLASS,
        "in_channels": _shape(tensors, "input_blocks.0.0.weight", 4)[1],
        "out_channels": _shape(tensors, "out.2.weight", 4)[0],
        "model_channels": width,
        "channel_mult": [level[0] // width for level in levels],
        "num_res_blocks": len(levels[0]),
        "attention_resolutions": sorted(attended, reverse=True),
        "num_head_channels": inner // HEADS,
        "context_dim": _shape(tensors, context, 2)[1],
        "image_scale_learnable": any(name.endswith(".alpha") for name in tensors),
        "addition_attention": True,
        "fs_condition": "fps_embedding.0.weight" in tensors,
        "default_fs": default_fs,
        "temporal_length": temporal_length,
    }


def is_vid2world(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether it is one of those that Vid2World released: its causal convolutions lie one level deeper."""
    return any(INFIX.search(name) for name in tensors)


def vid2world_config(tensors: Mapping[str, TensorInfo], config: dict[str, Any]) -> dict[str, Any]:
    """config.json of a Vid2World denoiser with these tensors, plain names; `config` is what `unet_config` says of it.

    Raises:
        ValueError: Naming the key, where one is not there that tells.
    """
    table = "action_emb_preprocess.weight"
    multi_hot = table in tensors
    shape = _shape(tensors, table if multi_hot else "action_emb_proj.0.weight", 2)
    own = {"_class_name": VID2WORLD_CLASS, "action_dim": shape[0 if multi_hot else 1], "multi_hot": multi_hot}
    return config | own


def plain_name(name: str) -> str:
    """What DynamiCrafter calls the tensor `name`."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
    return INFIX.sub(r".\1", name)


def default_fs(learnable: bool, base_scale: float | None) -> int:
    """`default_fs`.

    Raises:
        ValueError: Where nothing tells.
    """
    if learnable:
        return DEFAULT_STRIDE
    if base_scale is None:
        raise ValueError("neither scale_arr nor alpha is there, which tell the frame rate it was made for")
    if base_scale not in FS_BY_SCALE:
        raise ValueError(
            f"scale_arr ends in {base_scale}; known are {', '.join(map(str, FS_BY_SCALE))}, which tell the frame rate"
        )
    return FS_BY_SCALE[base_scale]


def base_scale(scales: np.ndarray) -> float:
    """The scale in which the table `scale_arr` ends.

    Raises:
        ValueError: If it is not the table that noise.py computes.
    """
    base = round(float(scales[-1]), 2)
    table = np.concatenate([np.linspace(1.0, base, RESCALE_STEPS), np.full(len(scales), base)])[: len(scales)]
    if not np.array_equal(table.astype(scales.dtype), scales):
        raise ValueError(
            f"scale_arr does not fall from 1 over {RESCALE_STEPS} timesteps to a scale and stay there"
        )
    return base


def scheduler_config(betas: np.ndarray, alphas_cumprod: np.ndarray, is_v: bool) -> dict[str, Any]:
    """scheduler_config.json, for diffusers' DDIMScheduler, of these tables.

    A release's own table is named by its two ends; any other is written out beta by beta.
    """
    zero = bool(alphas_cumprod[-1] == 0)
    config = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": len(betas),
        "prediction_type": "v_prediction" if is_v or zero else "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing" if zero else "leading",
    }
    if np.array_equal(_table(len(betas), zero).astype(betas.dtype), betas):
        start, end = BETAS
        return config | {
            "beta_schedule": "scaled_linear",
            "beta_start": start,
            "beta_end": end,
            "rescale_betas_zero_snr": zero,
        }
    return config | {"trained_betas": betas.astype(float).tolist(), "rescale_betas_zero_snr": False}


def _table(length: int, zero: bool) -> np.ndarray:
    """Betas (float64) whose roots lie on a line between the releases' ends.

    `zero`: shifted and stretched so that nothing of the frame is left at the last (arXiv 2305.08891, algorithm 1).
    """
    start, end = (beta**0.5 for beta in BETAS)
    betas = np.linspace(start, end, length) ** 2
    if not zero:
        return betas
    signal = np.sqrt(np.cumprod(1 - betas))
    signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    share = signal**2
    return 1 - np.concatenate([share[:1], share[1:] / share[:-1]])


def _shape(tensors: Mapping[str, TensorInfo], name: str, rank: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    shape = tensors[name].shape
    if len(shape) != rank or 0 in shape:
        raise ValueError(f"{name} is of shape {shape}, not {rank} sizes above 0")
    return shape

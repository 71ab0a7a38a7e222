"""Tiny checkpoints in one file, laid out like DynamiCrafter's."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn

from v2w_convert.families.build import build_model
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.registry import plan_for

MIDDLE = {
    "resnets.0.": "block_1.", "resnets.1.": "block_2.", "attentions.0.group_norm.": "attn_1.norm.",
    "attentions.0.to_q.": "attn_1.q.", "attentions.0.to_k.": "attn_1.k.", "attentions.0.to_v.": "attn_1.v.",
    "attentions.0.to_out.0.": "attn_1.proj_out.",
}  # fmt: skip


def tiny_autoencoder(**config: Any) -> AutoencoderKL:
    """Random, of one change of resolution unless `block_out_channels` says otherwise; norms of 32 groups, as in LDM."""
    widths = config.pop("block_out_channels", [32, 32])
    torch.manual_seed(3)
    model = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        block_out_channels=widths,
        latent_channels=4,
        **config,
    )
    return model.eval().requires_grad_(False)


def as_ldm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An AutoencoderKL's tensors under the names that an LDM has, attention as one-by-one convolutions."""
    levels = len({name.split(".")[2] for name in state if name.startswith("decoder.up_blocks.")})
    renamed = {}
    for name, tensor in state.items():
        if "mid_block.attentions" in name and tensor.dim() == 2:
            tensor = tensor[:, :, None, None]
        for new, old in MIDDLE.items():
            name = name.replace(f"mid_block.{new}", f"mid.{old}")
        name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
        name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
        name = name.replace("resnets", "block").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"(down|up)samplers\.0\.conv", r"\1sample.conv", name)
        renamed[name.replace("conv_norm_out", "norm_out")] = tensor.contiguous()
    return renamed


def schedule(
    *, zero_snr: bool = True, base_scale: float | None = 0.7, length: int = 1000
) -> dict[str, Tensor]:
    """The tables that LatentDiffusion registers (lvdm/models/ddpm3d.py), by its formulas, in numpy."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, length) ** 2
    if zero_snr:
        signal = np.sqrt(np.cumprod(1 - betas))
        first = signal[0]
        signal = (signal - signal[-1]) * (first / (first - signal[-1]))
        betas = 1 - np.concatenate([signal[:1] ** 2, signal[1:] ** 2 / signal[:-1] ** 2])
    shares = np.cumprod(1 - betas)
    tables = {"betas": betas, "alphas_cumprod": shares, "alphas_cumprod_prev": np.append(1.0, shares[:-1])}
    tables["sqrt_recip_alphas_cumprod"] = np.zeros(length) if zero_snr else 1 / np.sqrt(shares)
    if base_scale is not None:
        tables["scale_arr"] = np.concatenate([np.linspace(1.0, base_scale, 400), np.full(length, base_scale)])
    return {name: torch.from_numpy(table).float() for name, table in tables.items()}


def tiny_denoiser(**config: Any) -> nn.Module:
    """The DynamiCrafter plan's, without weights for the image (as at 512 and 1024), random, zero-initialised layers filled, in half precision."""
    torch.manual_seed(0)
    tiny = plan_for("DynamiCrafterUNet").tiny
    model = build_model("DynamiCrafterUNet", {**tiny, "image_scale_learnable": False, **config}).eval()
    randomize_zero_init(model)
    return model.half().requires_grad_(False)


def tiny_released(**config: Any) -> nn.Module:
    """Like the denoiser of a released Vid2World checkpoint: random, zero-initialised layers filled, in single precision."""
    torch.manual_seed(0)
    model = build_model("Vid2WorldUNet", {**plan_for("Vid2WorldUNet").tiny, **config}).eval()
    randomize_zero_init(model)
    return model.requires_grad_(False)


def as_released(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A Vid2WorldUNet's tensors under the names that the released checkpoints have."""
    causal = re.compile(r"(temopral_conv\.conv(?:1\.2|[234]\.3))\.")
    deeper = {name: causal.sub(r"\1.conv3d.", name) for name in state}
    return {re.sub(r"^out\.2\.", "out.2.conv2d.", deeper[name]): tensor for name, tensor in state.items()}


def checkpoint(unet: dict[str, Tensor], *, frames: int = 5, **tables: Any) -> dict[str, Tensor]:
    """All of a checkpoint's tensors: the denoiser's, a tiny autoencoder's, the schedule, parts that make conditions."""
    return {
        **schedule(**tables),
        **{f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()},
        **{f"first_stage_model.{n}": t for n, t in as_ldm(tiny_autoencoder().state_dict()).items()},
        "cond_stage_model.model.ln_final.weight": torch.ones(8),
        "embedder.model.visual.proj": torch.ones(8, 4),
        "image_proj_model.latents": torch.ones(1, 16 * frames, 8),
    }


def save(tensors: dict[str, Tensor], file: Path) -> Path:
    """As safetensors, or as Lightning saves a training's state, by the file's name."""
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    else:
        torch.save({"epoch": 1, "global_step": 10, "state_dict": tensors, "callbacks": {}}, file)
    return file

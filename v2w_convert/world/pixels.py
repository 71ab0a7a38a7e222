"""Pixels <-> latents, frame by frame, by the pipeline's own autoencoder."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.strict_json import read_object
from v2w_convert.errors import V2WError

SERVED = ("AutoencoderKL",)
BATCH = 64  # frames at a time


class Pixels(nn.Module):
    """Wraps an autoencoder that codes each frame by itself."""

    def __init__(self, autoencoder: Any):
        super().__init__()
        self.autoencoder: Any = autoencoder.eval().requires_grad_(False)
        self.scale = float(autoencoder.config.scaling_factor)

    @torch.no_grad()
    def encode(self, frames: np.ndarray | Tensor) -> Tensor:
        """Latents (t c h w) float32 of frames (t height width 3) uint8: the posterior's mode, scaled to unit size."""
        pixels = torch.as_tensor(frames).permute(0, 3, 1, 2).split(BATCH)
        weight = next(self.parameters())
        batches = [p.to(weight) / 127.5 - 1 for p in pixels]
        return (
            torch.cat([self.autoencoder.encode(p).latent_dist.mode() for p in batches]).float() * self.scale
        )

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (t 3 height width) float32 in [0, 1] of latents (t c h w)."""
        weight = next(self.parameters())
        decoded = [self.autoencoder.decode(z.to(weight) / self.scale).sample for z in latents.split(BATCH)]
        return (torch.cat(decoded).float() / 2 + 0.5).clamp(0, 1)


def open_pixels(folder: Path, device: str | torch.device = "cpu") -> Pixels:
    """The autoencoder in `folder`/vae, float32. Raises V2WError if there is none that codes single frames."""
    asked = f"read the autoencoder of {folder}"
    if not (folder / "vae" / "config.json").is_file():
        raise V2WError(asked, "there is no vae/config.json", "a pipeline folder, not a bare denoiser")
    name = read_object(folder / "vae" / "config.json").get("_class_name")
    if name not in SERVED:
        raise V2WError(asked, f"it is a {name}", f"one that codes frames one by one: {', '.join(SERVED)}")
    autoencoder = getattr(diffusers, name).from_pretrained(
        folder / "vae", torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    return Pixels(autoencoder).to(device)


def as_uint8(pictures: Tensor) -> np.ndarray:
    """Pictures (t 3 height width) in [0, 1] -> frames (t height width 3) uint8."""
    return (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

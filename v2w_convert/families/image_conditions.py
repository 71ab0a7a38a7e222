"""What a family's pipeline makes of a clip's first picture, with the pipeline's autoencoder.

Embeddings of the picture are not made here: they come from an image encoder of the checkpoint. Where a pipeline samples
the autoencoder's posterior, its mode is taken.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

BLACK = -1.0  # of pictures in [-1, 1]
SVD_NOISE = 0.02  # standard deviation, in pictures in [-1, 1]: the pipeline's noise_aug_strength
EASYANIMATE_NOISE = 0.0563


class Packing(Protocol):
    """Temporal compression, as `v2w_convert.world.temporal_compression.TemporalCompression` says it."""

    @property
    def k(self) -> int:
        """Video frames to a latent frame."""

    def frames(self, j: int, /) -> int:
        """How many video frames j latent frames hold."""


class Autoencoder(Protocol):
    """What is asked of an autoencoder: `v2w_convert.world.vae.VAE`."""

    autoencoder: Any
    factor: float

    @property
    def packing(self) -> Packing:
        """How video frames go into latent frames."""

    def encode_unscaled(self, pictures: Tensor, /) -> Tensor:
        """A clip (t 3 height width) in [-1, 1] -> the mode of its latents (j c h w), as the autoencoder gives it."""

    def scale(self, latents: Tensor, /) -> Tensor:
        """Latents (… j c h w) as the denoiser has them."""


class MakesConditions(Protocol):
    """A function that makes conditions of a picture."""

    def __call__(
        self,
        config: Mapping[str, Any],
        vae: Autoencoder,
        picture: Tensor,
        frames: int,
        generator: torch.Generator,
        /,
    ) -> dict[str, Tensor]:
        """The conditions by name, (T c h w) each.

        Args:
            config: The base's.
            vae: The pipeline's autoencoder.
            picture: (height width 3) uint8.
            frames: T, latent frames.
            generator: Of noise that the pipeline adds to the picture, on the CPU.
        """


def to_picture(picture: Tensor) -> Tensor:
    """(height width 3) uint8 -> (1 3 height width) in [-1, 1]."""
    pixels = picture.permute(2, 0, 1)[None].float()
    return 2 * (pixels / 255) - 1  # in this order, as diffusers rounds


def then(first: Tensor, frames: int, value: float = 0.0) -> Tensor:
    """The first frame's entry (1 c h w), and a constant for the frames after it: (T c h w)."""
    return torch.cat([first, first.new_full((frames - 1, *first.shape[1:]), value)])


def mask(latents: Tensor, channels: int = 1) -> Tensor:
    """(T channels h w) for latents (T c h w): 1 at the first frame, then 0."""
    frames, _, h, w = latents.shape
    return then(latents.new_ones(1, channels, h, w), frames)


def stable_video_diffusion(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Unscaled latents of the picture with some noise, for every frame (pipeline_stable_video_diffusion.py)."""
    pixels = to_picture(picture)
    noise = torch.randn(pixels.shape, generator=generator)
    latents = vae.encode_unscaled(pixels + SVD_NOISE * noise)
    return {"image_latents": latents.expand(frames, -1, -1, -1)}


def dynamicrafter(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The picture's latents for every frame (DynamiCrafter, scripts/evaluation/inference.py, image_guided_synthesis)."""
    latents = vae.scale(vae.encode_unscaled(to_picture(picture)))
    return {"image_latents": latents.expand(frames, -1, -1, -1)}


def i2vgen_xl(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The picture's latents; each later frame's place in the clip, up to 1 (pipeline_i2vgen_xl.py)."""
    latents = vae.scale(vae.encode_unscaled(to_picture(picture)))
    places = torch.arange(frames).to(latents)[1:, None, None, None] / max(frames - 1, 1)
    return {"image_latents": torch.cat([latents, places.expand(-1, *latents.shape[1:])])}


def cogvideox(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The picture's latents, then zeros (pipeline_cogvideox_image2video.py).

    CogVideoX 1.5 was trained on latents divided by the factor that the others are multiplied by.
    """
    latents = vae.encode_unscaled(to_picture(picture))
    inverted = vae.autoencoder.config.get("invert_scale_latents")
    return {"image_latents": then(latents / vae.factor if inverted else vae.scale(latents), frames)}


def wan(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """A mask channel for each video frame of a latent one; latents of the picture and grey frames (pipeline_wan_i2v.py)."""
    latents = vae.scale(vae.encode_unscaled(then(to_picture(picture), vae.packing.frames(frames))))
    return {"image_latents": torch.cat([mask(latents, vae.packing.k), latents], 1)}


def hunyuan_video(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The picture's latents, then zeros; a mask (pipeline_hunyuan_video_image2video.py, …_1_5_image2video.py)."""
    latents = then(vae.scale(vae.encode_unscaled(to_picture(picture))), frames)
    return {"image_latents": torch.cat([latents, mask(latents)], 1)}


def kandinsky5(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """A mask alone: the picture is the clip's first frame, clean (pipeline_kandinsky_i2v.py)."""
    latents = then(vae.encode_unscaled(to_picture(picture)), frames)
    return {"image_latents": torch.cat([torch.zeros_like(latents), mask(latents)], 1)}


def cosmos(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """A mask alone: the picture is the clip's first frame, clean (pipeline_cosmos_video2world.py)."""
    return {"condition_mask": mask(then(vae.encode_unscaled(to_picture(picture)), frames))}


def easyanimate(
    config: Mapping[str, Any], vae: Autoencoder, picture: Tensor, frames: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Mask and latents of the picture and black frames, with some noise (pipeline_easyanimate_inpaint.py)."""
    pixels, t = to_picture(picture), vae.packing.frames(frames)
    if config["add_noise_in_inpaint_model"]:
        noise = torch.randn(3, t, *pixels.shape[2:], generator=generator)[
            :, 0
        ]  # of the whole clip, as the pipeline
        pixels = pixels + EASYANIMATE_NOISE * torch.where(pixels == BLACK, 0.0, noise)
    latents = vae.scale(vae.encode_unscaled(then(pixels, t, BLACK)))
    known = mask(pixels.expand(t, -1, -1, -1))
    if config["resize_inpaint_mask_directly"]:
        masks = _resize(known, latents, bool(vae.autoencoder.config.get("cache_mag_vae"))) * vae.factor
    else:
        masks = vae.scale(vae.encode_unscaled((1 - known).expand(-1, 3, -1, -1)))
    return {"image_latents": torch.cat([masks, latents], 1)}


def _resize(known: Tensor, latents: Tensor, first_alone: bool) -> Tensor:
    """A mask (t 1 height width) in the size of latents (j c h w), the first frame by itself or not."""
    j, _, h, w = latents.shape

    def resized(frames: Tensor, number: int) -> Tensor:
        return F.interpolate(frames.transpose(0, 1)[None], size=(number, h, w), mode="trilinear")[
            0
        ].transpose(0, 1)

    if not first_alone:
        return resized(known, j).to(latents)
    parts = [resized(known[:1], 1)] + ([resized(known[1:], j - 1)] if j > 1 else [])
    return torch.cat(parts).to(latents)


IMAGE_CONDITIONS: dict[str, MakesConditions] = {
    "cogvideox": cogvideox,
    "cosmos": cosmos,
    "dynamicrafter": dynamicrafter,
    "easyanimate": easyanimate,
    "hunyuan-video": hunyuan_video,
    "i2vgen-xl": i2vgen_xl,
    "kandinsky5": kandinsky5,
    "stable-video-diffusion": stable_video_diffusion,
    "wan": wan,
}

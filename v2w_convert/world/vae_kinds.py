"""The autoencoders of diffusers that are served, and how each is called: as its family's pipeline does it.

An encoder takes one clip, frames first, pictures (t 3 height width) in [-1, 1] of any device and dtype, and returns latents
(j c h w), unscaled; for decoders see `decoding`. Where a clip goes through the autoencoder in pieces, only a piece of it is on
the autoencoder's device.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from v2w_convert.world.decoding import (
    BATCH,
    CHUNK,
    Decode,
    as_video,
    decode_allegro,
    decode_cogvideox,
    decode_easyanimate,
    decode_ltx,
    decode_pictures,
    decode_together,
    decode_video,
    decode_wan,
    frames_first,
    one_tile,
)
from v2w_convert.world.temporal_compression import TemporalCompression

Encode = Callable[[Any, Tensor], Tensor]


def encode_pictures(autoencoder: Any, pictures: Tensor) -> Tensor:
    """Picture by picture, in batches."""
    like = _like(autoencoder)
    return torch.cat([autoencoder.encode(p.to(like)).latent_dist.mode() for p in pictures.split(BATCH)])


def encode_video(autoencoder: Any, pictures: Tensor) -> Tensor:
    """The clip at once."""
    return frames_first(autoencoder.encode(as_video(pictures.to(_like(autoencoder)))).latent_dist.mode())


def encode_wan(autoencoder: Any, pictures: Tensor) -> Tensor:
    """As its own `encode`: the first frame, then four at a time; its convolutions keep features of the frames before."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    autoencoder.clear_cache()
    made = []
    for piece in (pictures[:1], *pictures[1:].split(4)):
        if not len(piece):
            continue
        video = as_video(piece.to(_like(autoencoder)))
        if autoencoder.config.patch_size is not None:
            video = patchify(video, patch_size=autoencoder.config.patch_size)
        made.append(autoencoder.encoder(video, feat_cache=autoencoder._enc_feat_map, feat_idx=[0]))
    moments = autoencoder.quant_conv(torch.cat(made, 2))
    autoencoder.clear_cache()
    return frames_first(DiagonalGaussianDistribution(moments).mode())


def encode_allegro(autoencoder: Any, pictures: Tensor) -> Tensor:
    """The clip as one tile."""
    one_tile(autoencoder, len(pictures), *pictures.shape[-2:])
    return encode_video(autoencoder, pictures)


@dataclass(frozen=True)
class Kind:
    """How a class of autoencoders is called.

    Attributes:
        encode: Its encoder.
        decode: Its decoder.
        chunks: Latent frames that are decoded at a time, first and later; None: a clip can only be decoded whole.
        ratio: The attribute or config entry that says how many video frames make one latent frame; None: one.
        alone: The first video frame makes the first latent frame by itself.
        edm: Cosmos: latents_mean and latents_std are of each latent frame by its index in the clip, and latents are
            scaled to the standard deviation `sigma_data` of the scheduler, not by scaling_factor.
    """

    encode: Encode = encode_video
    decode: Decode = decode_video
    chunks: tuple[int, int] | None = None
    ratio: str | None = "temporal_compression_ratio"
    alone: bool = True
    edm: bool = False


KINDS = {
    "AutoencoderKL": Kind(encode_pictures, decode_pictures, (1, 1), ratio=None),
    "AutoencoderKLTemporalDecoder": Kind(encode_pictures, decode_together, (CHUNK, CHUNK), ratio=None),
    "AutoencoderKLAllegro": Kind(encode_allegro, decode_allegro, alone=False),
    "AutoencoderKLCogVideoX": Kind(decode=decode_cogvideox, chunks=(3, 2)),
    "AutoencoderKLCosmos": Kind(edm=True),
    "AutoencoderKLHunyuanVideo": Kind(),
    "AutoencoderKLHunyuanVideo15": Kind(),
    "AutoencoderKLLTXVideo": Kind(decode=decode_ltx),
    "AutoencoderKLLTX2Video": Kind(decode=decode_ltx),
    "AutoencoderKLMagvit": Kind(decode=decode_easyanimate, chunks=(1, 1)),
    "AutoencoderKLMochi": Kind(),
    "AutoencoderKLWan": Kind(encode_wan, decode_wan, chunks=(1, 1), ratio="scale_factor_temporal"),
}

REFUSED = {
    "AutoencoderDC": "it codes single pictures, and no pipeline says how its latents are scaled for video",
    "AutoencoderKLMiniMaxH3": "it codes clips of a fixed length and drops frames between them",
    "AutoencoderVidTok": "a latent frame is not made of video frames of its own: it reaches into the ones before",
}


SMALLEST = 1e-6  # of a scale
MAX_RATIO = 64  # video frames in a latent frame: eight times the largest that there is


def packing(autoencoder: Any, kind: Kind) -> TemporalCompression:
    """Its temporal compression, by its config or, where that says nothing, by an attribute of the model.

    Raises:
        ValueError: It is no number of frames.
    """
    if kind.ratio is None:
        return TemporalCompression()
    k = autoencoder.config.get(kind.ratio) or getattr(autoencoder, kind.ratio)
    if not (isinstance(k, int | float) and k == int(k) and 1 <= k <= MAX_RATIO):
        raise ValueError(f"{kind.ratio} is {k!r:.80}, not 1 to {MAX_RATIO}")
    return TemporalCompression(int(k), kind.alone)


def factor(autoencoder: Any, kind: Kind, scheduler: Mapping[str, Any]) -> float:
    """By which latents are scaled.

    Args:
        autoencoder: The model.
        kind: How its class is called.
        scheduler: The config of its pipeline's scheduler, where the kind needs it.

    Raises:
        ValueError: It is no number that latents can be scaled by.
    """
    if kind.edm:
        name, said = "sigma_data", scheduler.get("sigma_data", 0.5)
    else:
        name, said = "scaling_factor", autoencoder.config.get("scaling_factor", 1)
    scaled = _number(name, said)
    if not SMALLEST <= abs(scaled) <= 1 / SMALLEST:
        raise ValueError(f"{name} is {said!r:.80}, by which latents cannot be scaled")
    return scaled


def check_numbers(autoencoder: Any, kind: Kind) -> None:
    """Check what of its config latents are made with.

    Raises:
        ValueError: A number is missing, not finite, or 0 where it divides.
    """
    packing(autoencoder, kind)
    factor(autoencoder, kind, {})
    statistic(autoencoder, kind, "latents_mean", 0.0)
    statistic(autoencoder, kind, "latents_std", 1.0)
    if (shift := autoencoder.config.get("shift_factor")) is not None:
        _number("shift_factor", shift)


def statistic(autoencoder: Any, kind: Kind, name: str, default: float) -> Tensor:
    """A statistic of latents.

    Args:
        autoencoder: The model.
        kind: How its class is called.
        name: `latents_mean` or `latents_std`, in a buffer or in the config.
        default: Where neither has it.

    Returns:
        (c m) float32; m = 1 unless the statistic depends on the frame.

    Raises:
        ValueError: It does not fit the number of channels, is not finite, or is a deviation that is not above 0.
    """
    channels = autoencoder.config.get("latent_channels") or autoencoder.config["z_dim"]
    stored = autoencoder.state_dict().get(name, autoencoder.config.get(name))
    if stored is None:
        return torch.full((channels, 1), default)
    try:
        values = torch.as_tensor(stored, dtype=torch.float32).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is {stored!r:.80}, not numbers") from None
    if not values.numel() or values.numel() % channels or (values.numel() > channels and not kind.edm):
        raise ValueError(f"{name} has {values.numel()} numbers for {channels} channels")
    if not values.isfinite().all() or (name == "latents_std" and not (values >= SMALLEST).all()):
        raise ValueError(f"{name} has a number by which latents cannot be scaled")
    return values.view(channels, -1)


def _like(autoencoder: Any) -> Tensor:
    """A tensor of the autoencoder's device and dtype."""
    like: Tensor = next(autoencoder.parameters())
    return like


def _number(name: str, said: Any) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        raise ValueError(f"{name} is {said!r:.80}, not a number")
    return float(said)

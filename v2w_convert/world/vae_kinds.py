"""The autoencoders of diffusers that are served, and how each is called: as its family's pipeline does it.

An encoder takes one clip, frames first, pictures (t 3 height width) in [-1, 1], and returns latents (j c h w), unscaled;
for decoders see `decoding`.
"""

from collections.abc import Callable
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
    return torch.cat([autoencoder.encode(p).latent_dist.mode() for p in pictures.split(BATCH)])


def encode_video(autoencoder: Any, pictures: Tensor) -> Tensor:
    """The clip at once."""
    return frames_first(autoencoder.encode(as_video(pictures)).latent_dist.mode())


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
    "AutoencoderKLWan": Kind(decode=decode_wan, chunks=(1, 1), ratio="scale_factor_temporal"),
}

REFUSED = {
    "AutoencoderDC": "it codes single pictures, and no pipeline says how its latents are scaled for video",
    "AutoencoderKLMiniMaxH3": "it codes clips of a fixed length and drops frames between them",
    "AutoencoderVidTok": "a latent frame is not made of video frames of its own: it reaches into the ones before",
}


def packing(autoencoder: Any, kind: Kind) -> TemporalCompression:
    """Its temporal compression, by its config or, where that says nothing, by an attribute of the model."""
    if kind.ratio is None:
        return TemporalCompression()
    return TemporalCompression(
        int(autoencoder.config.get(kind.ratio) or getattr(autoencoder, kind.ratio)), kind.alone
    )


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
        ValueError: It does not fit the number of channels.
    """
    channels = autoencoder.config.get("latent_channels") or autoencoder.config["z_dim"]
    stored = autoencoder.state_dict().get(name, autoencoder.config.get(name))
    if stored is None:
        return torch.full((channels, 1), default)
    values = torch.as_tensor(stored, dtype=torch.float32).flatten()
    if values.numel() % channels or (values.numel() > channels and not kind.edm):
        raise ValueError(f"{name} has {values.numel()} numbers for {channels} channels")
    return values.view(channels, -1)

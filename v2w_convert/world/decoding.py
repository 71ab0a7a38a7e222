"""Latents -> pictures by the decoders of diffusers, as their families' pipelines call them, chunk by chunk.

A decoder takes the next latents (j c h w) of one clip, unscaled, and what it left behind at the chunk before, None at the
clip's start. It returns their pictures (t 3 height width) in [-1, 1] and what it needs at the chunk after. So the memory
of a long clip is that of one chunk. Those that see all frames of a clip at once take the clip as one chunk: the norms and
attentions of HunyuanVideo, HunyuanVideo 1.5 and Cosmos span it, the convolutions of Allegro, LTX and Mochi keep no past.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

BATCH = 64  # pictures at a time
CHUNK = 25  # frames that the decoder of Stable Video Diffusion sees together: as many as its model makes

Decode = Callable[[Any, Tensor, Any], tuple[Tensor, Any]]


def decode_pictures(autoencoder: Any, latents: Tensor, before: None = None) -> tuple[Tensor, None]:
    """Picture by picture, in batches."""
    return torch.cat([autoencoder.decode(z).sample for z in latents.split(BATCH)]), None


def decode_together(autoencoder: Any, latents: Tensor, before: None = None) -> tuple[Tensor, None]:
    """Frames that see each other, and none of another chunk."""
    return autoencoder.decode(latents, num_frames=len(latents)).sample, None


def decode_video(autoencoder: Any, latents: Tensor, before: None = None) -> tuple[Tensor, None]:
    """The clip at once."""
    return frames_first(autoencoder.decode(as_video(latents)).sample), None


def decode_wan(
    autoencoder: Any, latents: Tensor, before: list[Any] | None = None
) -> tuple[Tensor, list[Any]]:
    """One latent frame; its convolutions keep features of the frames before."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    autoencoder.clear_cache()
    features = autoencoder._feat_map if before is None else before
    video = autoencoder.post_quant_conv(as_video(latents))
    video = autoencoder.decoder(video, feat_cache=features, feat_idx=[0], first_chunk=before is None)
    if autoencoder.config.patch_size is not None:
        video = unpatchify(video, patch_size=autoencoder.config.patch_size)
    return frames_first(video.clamp(-1, 1)), features


def decode_cogvideox(
    autoencoder: Any, latents: Tensor, before: dict[str, Any] | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """Three latent frames, of which the first is one picture's, or two; or what is left of them at the clip's end."""
    missing = 0 if before is None and len(latents) == 1 else (2 if before else 3) - len(latents)
    video = as_video(torch.cat([latents, latents[-1:].expand(missing, -1, -1, -1)]))
    if autoencoder.post_quant_conv is not None:
        video = autoencoder.post_quant_conv(video)
    video, after = autoencoder.decoder(video, conv_cache=before)
    pictures = frames_first(video)
    return pictures[: len(pictures) - missing * int(autoencoder.config.temporal_compression_ratio)], after


def decode_easyanimate(
    autoencoder: Any, latents: Tensor, before: list[Any] | None = None
) -> tuple[Tensor, list[Any]]:
    """One latent frame; its layers keep features of the frames before."""
    layers = [layer for layer in autoencoder.decoder.modules() if hasattr(layer, "prev_features")]
    for layer, features in zip(layers, before or [None] * len(layers), strict=True):
        layer.prev_features = features
    video = autoencoder.decoder(autoencoder.post_quant_conv(as_video(latents)))
    after = [layer.prev_features for layer in layers]
    for layer in layers:
        layer.prev_features = None
    return frames_first(video), after


def decode_ltx(autoencoder: Any, latents: Tensor, before: None = None) -> tuple[Tensor, None]:
    """At timestep 0 where the decoder takes one. The noise that some of its layers add is the same every time."""
    timestep = latents.new_zeros(1) if autoencoder.config.timestep_conditioning else None
    with torch.random.fork_rng([latents.device] if latents.is_cuda else []):
        torch.manual_seed(0)
        return frames_first(autoencoder.decode(as_video(latents), timestep).sample), None


def decode_allegro(autoencoder: Any, latents: Tensor, before: None = None) -> tuple[Tensor, None]:
    """The clip as one tile."""
    t = len(latents) * autoencoder.config.temporal_compression_ratio
    height, width = (size * autoencoder.spatial_compression_ratio for size in latents.shape[-2:])
    one_tile(autoencoder, t, height, width)
    return autoencoder.decode(as_video(latents)).sample[0], None  # the only one that returns frames first


def one_tile(autoencoder: Any, *size: int) -> None:
    """Make the tile as large as the clip, t height width: Allegro's autoencoder only codes tile by tile."""
    autoencoder.use_tiling = True
    autoencoder.kernel = autoencoder.stride = size


def as_video(frames: Tensor) -> Tensor:
    """Frames first (t c h w) -> as diffusers has a clip (1 c t h w)."""
    return frames.transpose(0, 1)[None]


def frames_first(video: Tensor) -> Tensor:
    """As diffusers has a clip (1 c t h w) -> frames first (t c h w)."""
    return video[0].transpose(0, 1)


def in_chunks(blocks: Iterable[Tensor], chunks: tuple[int, int] | None) -> Iterator[Tensor]:
    """The same frames in chunks.

    Args:
        blocks: (n j c h w) each, of any j.
        chunks: Frames of the first chunk and of every later one but the last, which may be shorter; None: all in one.
    """
    held: list[Tensor] = []
    size = chunks and chunks[0]
    for block in blocks:
        held.append(block)
        while size and sum(part.shape[1] for part in held) >= size:
            joined = torch.cat(held, 1)
            yield joined[:, :size]
            held, size = [joined[:, size:]], chunks[1] if chunks else None
    if held and any(part.shape[1] for part in held):
        yield torch.cat(held, 1)


def decode_clip(decode: Decode, chunks: tuple[int, int] | None, autoencoder: Any, latents: Tensor) -> Tensor:
    """All pictures (t 3 height width) in [-1, 1] of one clip's latents (j c h w), unscaled."""
    pictures, state = [], None
    for chunk in in_chunks([latents[None]], chunks):
        found, state = decode(autoencoder, chunk[0], state)
        pictures.append(found)
    return torch.cat(pictures)

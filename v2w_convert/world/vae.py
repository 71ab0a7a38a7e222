"""Pixels <-> latents by the pipeline's own autoencoder."""

from collections.abc import Iterable, Iterator
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from v2w_convert.errors import V2WError, one_line
from v2w_convert.strict_json import read_object
from v2w_convert.world.autoencoder_files import find_autoencoder, read_autoencoder
from v2w_convert.world.decoding import BATCH, decode_pictures, decode_together, in_chunks
from v2w_convert.world.finite import is_finite, origin
from v2w_convert.world.vae_kinds import KINDS, encode_pictures, factor, packing, statistic

REPAIR = "the autoencoder that belongs to this denoiser"


class VAE(nn.Module):
    """An autoencoder, frozen. A denoiser's latents are the autoencoder's, `(z - mean) · factor / std`.

    Attributes:
        autoencoder: The model of diffusers.
        kind: How its class is called.
        packing: How t video frames go into j latent frames.
        single: Each latent frame is one picture's and depends on no other, nor does its picture.
        mean: (c m), of the m-th latent frame of a clip and of all after it.
        std: The same.
        factor: By which latents are scaled.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, autoencoder: Any, scheduler: dict[str, Any]):
        """Freeze an autoencoder.

        Args:
            autoencoder: Of a class in `vae_kinds.KINDS`.
            scheduler: The config of its pipeline's scheduler, where the class needs it.
        """
        super().__init__()
        self.autoencoder: Any = autoencoder.eval().requires_grad_(False)
        self.kind = KINDS[type(autoencoder).__name__]
        self.packing = packing(autoencoder, self.kind)
        self.single = (self.kind.encode, self.kind.decode) == (encode_pictures, decode_pictures)
        self.factor = factor(autoencoder, self.kind, scheduler)
        self.register_buffer("mean", statistic(autoencoder, self.kind, "latents_mean", 0.0), persistent=False)
        self.register_buffer("std", statistic(autoencoder, self.kind, "latents_std", 1.0), persistent=False)

    @torch.no_grad()
    def encode(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """Latents of clips: the posterior's mode.

        Args:
            frames: (… t height width 3) uint8, of whole latent frames.

        Returns:
            (… j c h w) float32.

        Raises:
            V2WError: The autoencoder does not pack frames as its config says.
        """
        frames = torch.as_tensor(frames)
        front, t = frames.shape[:-4], frames.shape[-4]
        clips = frames.reshape(-1, *frames.shape[-4:])
        if self.kind.encode is encode_pictures:  # in full batches, across clips
            latents = self.encode_unscaled(_pictures(clips.flatten(0, 1))).unflatten(0, (len(clips), t))
        else:
            latents = torch.stack([self.encode_unscaled(_pictures(clip)) for clip in clips])
        self._require(t, latents.shape[1])
        output: Tensor = self.scale(latents).reshape(*front, *latents.shape[1:])
        if not is_finite(output):
            place = origin(
                self.autoencoder, lambda: [self.encode_unscaled(_pictures(clip)) for clip in clips[:1]]
            )
            raise V2WError(f"encode pictures with the {self._name}", f"{place} not finite", REPAIR)
        return output

    @torch.no_grad()
    def encode_unscaled(self, pictures: Tensor) -> Tensor:
        """The posterior's mode of one clip, as the autoencoder gives it.

        Args:
            pictures: (t 3 height width) in [-1, 1].

        Returns:
            (j c h w) float32.
        """
        return self.kind.encode(self.autoencoder, pictures).float()

    def scale(self, latents: Tensor) -> Tensor:
        """Latents (… j c h w) as the denoiser has them: `(z - mean) · factor / std`."""
        scaled = (latents - self._for_frames(self.mean, latents)) * self.factor
        return scaled / self._for_frames(self.std, latents)

    def decode(self, latents: Tensor, seen: int = 0) -> Tensor:
        """Pictures of clips of latents.

        Args:
            latents: (… j c h w).
            seen: Latent frames at the front of each clip that are only context: their pictures are left out.

        Returns:
            (… t 3 height width) float32 in [0, 1].
        """
        front, clips = latents.shape[:-4], latents.reshape(-1, *latents.shape[-4:])
        pictures = torch.cat(list(self.decode_blocks([clips], seen)), 1)
        return pictures.reshape(*front, *pictures.shape[1:])

    @torch.no_grad()
    def decode_blocks(self, blocks: Iterable[Tensor], seen: int = 0) -> Iterator[Tensor]:
        """As `decode`, of latents that come block by block: the same pictures, bit for bit, however they are cut.

        Of a clip that can only be decoded whole (`kind.chunks` is None) all pictures come at its end.

        Args:
            blocks: (n j c h w) each.
            seen: As `decode` takes it.

        Yields:
            (n t 3 height width) float32 in [0, 1], each as soon as the latents are there that it depends on.
        """
        blocks = iter(blocks)
        block = next(blocks)
        n, j, t = len(block), 0, 0
        together = max(BATCH // n, 1)
        states: list[Any] = [None] * n
        for chunk in in_chunks(
            chain([block], blocks), (together, together) if self.single else self.kind.chunks
        ):
            first, j = j, j + chunk.shape[1]
            if self.single:
                left_out = min(max(seen - first, 0), chunk.shape[1])
                if left_out < chunk.shape[1]:
                    yield self.decode_next(chunk[:, left_out:], states, first + left_out)[0]
                continue
            pictures, states = self.decode_next(chunk, states, first)
            left_out = max(self.packing.frames(seen) - t, 0)
            t += pictures.shape[1]
            self._require(t, j)
            if pictures.shape[1] > left_out:
                yield pictures[:, left_out:]

    @property
    def decodes_at_once(self) -> bool:
        """Whether a latent frame can be decoded as soon as it is there. `AutoencoderKLTemporalDecoder` can, too, but gives
        other pictures for frames that are decoded together.
        """
        return self.kind.chunks is not None and (
            self.kind.chunks == (1, 1) or self.kind.decode is decode_together
        )

    @torch.no_grad()
    def decode_next(self, latents: Tensor, states: list[Any], first: int) -> tuple[Tensor, list[Any]]:
        """Pictures of the next chunk of clips.

        Args:
            latents: (n j c h w), of as many frames as the kind takes at a time.
            states: What decoding the chunk before left of each of the n clips, None where there was none. They are not
                changed.
            first: The number of these latent frames' first in its clip.

        Returns:
            Pictures (n t 3 height width) float32 in [0, 1], and what is needed at the chunk after.

        Raises:
            V2WError: They are not finite.
        """
        latents = latents.to(next(self.parameters()))
        latents = latents * self._for_frames(self.std, latents, first) / self.factor
        latents = latents + self._for_frames(self.mean, latents, first)
        if self.single:
            pictures, _ = self.kind.decode(self.autoencoder, latents.flatten(0, 1), None)
            pictures = pictures.unflatten(0, latents.shape[:2])
        else:
            found = [
                self.kind.decode(self.autoencoder, clip, copy(state))  # decoders write into lists of features
                for clip, state in zip(latents, states, strict=True)
            ]
            states = [state for _, state in found]
            pictures = torch.stack([shown for shown, _ in found])
        self._require_finite(pictures)
        return (pictures.float() / 2 + 0.5).clamp(0, 1), states

    def _require_finite(self, pictures: Tensor) -> None:
        """Raises V2WError if some of what was decoded is not finite."""
        if not is_finite(pictures):
            raise V2WError(f"decode latents with the {self._name}", "pictures are not finite", REPAIR)

    @property
    def _name(self) -> str:
        return type(self.autoencoder).__name__

    def _for_frames(self, values: Tensor, clips: Tensor, first: int = 0) -> Tensor:
        """(c m) -> (j c 1 1), for clips (… j c h w) from latent frame `first` on."""
        index = torch.arange(first, first + clips.shape[-4], device=values.device)
        index = index.clamp(max=values.shape[1] - 1)
        return values[:, index].T[..., None, None].to(clips)

    def _require(self, t: int, j: int) -> None:
        if self.packing.frames(j) != t:
            said = f"its config.json says {self.packing}"
            raise V2WError(f"use the {self._name}", f"{t} video frames go with {j} latent frames, and {said}")


def open_vae(folder: Path, device: str | torch.device = "cpu") -> VAE:
    """The autoencoder in `folder`/vae, float32.

    Raises:
        V2WError: There is none, or one that is not served.
    """
    autoencoder = read_autoencoder(find_autoencoder(folder), f"read the autoencoder of {folder}")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    is_edm = KINDS[type(autoencoder).__name__].edm and scheduler.is_file()
    try:
        return VAE(autoencoder, read_object(scheduler, infinity=True) if is_edm else {}).to(device)
    except ValueError as error:
        raise V2WError(f"read the autoencoder of {folder}", f"its vae/config.json: {error}") from None


def require_decodable(vae: VAE, asked: str, advice: str) -> None:
    """Check that pictures can be had frame by frame.

    Raises:
        V2WError: They cannot. `asked` says what was asked for, `advice` what can be had.
    """
    if not vae.decodes_at_once:
        name = type(vae.autoencoder).__name__
        raise V2WError(asked, f"its autoencoder, {name}, decodes several latent frames together", advice)


def require_frame_size(pixels: VAE, frames: NDArray[np.uint8], asked: str) -> None:
    """Check that the autoencoder returns pictures in the size of `frames` (t height width 3).

    Raises:
        V2WError: It does not. `asked` says what was asked for.
    """
    size = frames.shape[1:3]
    found = f"pictures of {size[0]} x {size[1]} "
    try:
        latent = pixels.encode(frames[: pixels.packing.frames(1)])
        back = pixels.decode(latent).shape[-2:]
    except (RuntimeError, ValueError, ArithmeticError, TypeError, LookupError) as error:
        found += f"do not go through the autoencoder ({one_line(error)})"
        raise V2WError(asked, found, "another size of pictures") from None
    if back != size:
        unit = back[0] // latent.shape[-2]
        raise V2WError(
            asked, f"{found}come back from the autoencoder as {back[0]} x {back[1]}", f"multiples of {unit}"
        )


def looks_ahead(pixels: VAE, frames: NDArray[np.uint8]) -> bool:
    """Whether video frames change latents before their own, tried on `frames` (t height width 3) of whole latent frames.

    The frames of the last latent frame are inverted; no latent before it may move.
    """
    before = pixels.packing.latents(len(frames)) - 1
    changed = frames.copy()
    changed[pixels.packing.frames(before) :] ^= 255
    a, b = (pixels.encode(clip)[:before] for clip in (frames, changed))
    return bool((a - b).abs().max() > 1e-5 * a.abs().max()) if before else False


def _pictures(frames: Tensor) -> Tensor:
    """Frames (t height width 3) uint8 -> pictures (t 3 height width) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def as_uint8(pictures: Tensor) -> NDArray[np.uint8]:
    """Pictures (t 3 height width) in [0, 1] -> frames (t height width 3) uint8."""
    return (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

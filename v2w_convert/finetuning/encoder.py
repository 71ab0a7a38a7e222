"""An episode's frames as latents, in as much memory as there is."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.world.decoding import BATCH
from v2w_convert.world.vae import VAE
from v2w_convert.world.vae_kinds import encode_pictures

ADVICE = "shorter episodes, smaller frames (--height, --width) or another --device"


class Encoder:
    """Encodes episode after episode.

    An autoencoder of pictures is given a batch of them at a time, half as many from then on whenever the device has not
    enough memory. One of videos is given the episode as a whole: those whose latents depend on the past alone go
    through it in pieces by themselves, as diffusers has them, and the others cannot be cut without another result.
    """

    def __init__(self, vae: VAE, asked: str):
        """Begin with full batches. `asked` says what was asked for, for errors."""
        self.vae, self.asked, self.batch = vae, asked, BATCH

    def encode(self, frames: NDArray[np.uint8], number: int) -> Tensor:
        """Latents (j c h w) float16, on the CPU.

        Args:
            frames: (t height width 3), of whole latent frames.
            number: The episode's number, for errors.

        Raises:
            V2WError: There is not enough memory, or latents are not finite in float16.
        """
        name = f"episode {number}"
        try:
            latents = self._pictures(frames) if self.by_picture else self._half(frames)
        except torch.OutOfMemoryError:
            what = "one frame" if self.by_picture else f"the {len(frames)} frames"
            how = "" if self.by_picture else " as a whole"
            found = f"not enough memory to encode {what} of {name}{how}"
            raise V2WError(self.asked, found, ADVICE) from None
        except V2WError as error:
            raise V2WError(f"{self.asked}: {name}", f"{error.asked}: {error.found}", error.try_) from None
        finite = torch.isfinite(latents).flatten(1).all(1)
        if not bool(finite.all()):
            first = self.vae.packing.frames(int(torch.argmin(finite.int())))
            found = f"{name} has latents that are not finite in float16, from frame {first} on"
            raise V2WError(self.asked, found)
        return latents

    @property
    def by_picture(self) -> bool:
        """Whether a frame's latents depend on no other frame."""
        return self.vae.kind.encode is encode_pictures

    def _pictures(self, frames: NDArray[np.uint8]) -> Tensor:
        made: list[Tensor] = []
        done = 0
        while done < len(frames):
            try:
                made.append(self._half(frames[done : done + self.batch]))
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch //= 2
                torch.cuda.empty_cache()
                continue
            done += len(made[-1])
        return torch.cat(made)

    def _half(self, frames: NDArray[np.uint8]) -> Tensor:
        return self.vae.encode(frames).half().cpu().contiguous()

"""Temporal compression: which video frames make which latent frame, and which actions belong to it."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from v2w_convert.errors import V2WError


@dataclass(frozen=True)
class TemporalCompression:
    """An autoencoder's: every k video frames make one latent frame.

    Attributes:
        k: Video frames per latent frame.
        alone: The first video frame makes the first latent frame by itself: latent frame j is made of the video frames
            kj - k + 1 … kj. Else of kj … kj + k - 1.
    """

    k: int = 1
    alone: bool = True

    def latents(self, t: int) -> int:
        """How many latent frames t video frames fill; what is left over fills none."""
        return (t + self.k - 1) // self.k if self.alone else t // self.k

    def frames(self, j: int) -> int:
        """How many video frames j latent frames hold."""
        return max(self.k * j - (self.k - 1 if self.alone else 0), 0)

    def whole_blocks(self, t: int, n: int = 1) -> int:
        """The smallest number of video frames, t or more, that fills latent frames in whole blocks of n."""
        filled = self.latents(t)
        filled += self.frames(filled) < t
        return self.frames(-(-filled // n) * n)

    def actions(self, arriving: Tensor) -> Tensor:
        """The actions of latent frames.

        Args:
            arriving: (… t a), the actions that led to each video frame, of whole latent frames.

        Returns:
            (… j k·a), to the video frames of each latent frame, in order. Zeros stand before a first frame that is
            alone: the first row is never read.
        """
        missing = self.k - 1 if self.alone else 0
        grouped: Tensor = F.pad(arriving, (0, 0, missing, 0)).unflatten(-2, (-1, self.k))
        return grouped.flatten(-2)

    def __str__(self) -> str:
        first = ", the first alone" if self.alone else ""
        return f"{self.k} video frames to a latent frame{first}"


def require_actions(asked: str, a: int, action_dim: int, packing: TemporalCompression, advice: str) -> None:
    """Check that a model is for the actions of some data.

    Args:
        asked: What was asked for, for the error.
        a: Numbers in an action of the data.
        action_dim: Numbers in an action of the model.
        packing: The autoencoder's compression.
        advice: What to do with the right --action-dim, for the error.

    Raises:
        V2WError: It is not.
    """
    wanted = packing.k * a
    if wanted != action_dim:
        together = f"{wanted} with {packing}, " if packing.k > 1 else ""
        found = f"its actions have {a} numbers, {together}the model takes {action_dim}"
        raise V2WError(asked, found, f"{advice} --action-dim {wanted}")

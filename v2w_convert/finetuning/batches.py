"""Every random number of a run, drawn from (seed, step) alone.

A resumed run therefore needs no saved random state, and draws what the unbroken one would have drawn.
Draws are made on the CPU, so that they are the same for every device.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from v2w_convert.noise import Noise


@dataclass(frozen=True)
class BatchSamples:
    """What chance decides for b clips of t frames.

    level    (b t) float32, in the noise kind's unit, independent for every block (arXiv 2407.01392)
    noise    (b t c h w) float32
    dropped  (b t) bool: frames whose action is replaced by the learned "no action"
    offset   (b,) int64: where in the period of the positions a clip begins; None where positions have none
    """

    level: Tensor
    noise: Tensor
    dropped: Tensor
    offset: Tensor | None

    def part(self, clips: slice, device: str | torch.device = "cpu") -> "BatchSamples":
        """Those of some of the clips, on `device`."""
        offset = None if self.offset is None else self.offset[clips].to(device)
        return BatchSamples(
            self.level[clips].to(device), self.noise[clips].to(device), self.dropped[clips].to(device), offset
        )


def seed_of(*key: object) -> int:
    """A seed for torch that belongs to `key`."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def generator(*key: object) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*key))


def draw_clips(count: int, batch: int, generator: torch.Generator) -> list[int]:
    """Which of the data's `count` clips form a batch: each equally likely, with replacement."""
    return torch.randint(count, (batch,), generator=generator).tolist()


def sample_batch(
    shape: tuple[int, ...],
    noise: Noise,
    action_dropout: float,
    period: int | None,
    generator: torch.Generator,
    n: int = 1,
) -> BatchSamples:
    """Draws for clips of `shape` (b t c h w), in blocks of n frames."""
    b, t = shape[:2]
    return BatchSamples(
        level=noise.sample_training_levels((b, t // n), generator).repeat_interleave(n, 1),
        noise=torch.randn(shape, generator=generator),
        dropped=torch.rand(b, t, generator=generator) < action_dropout,
        offset=None if period is None else torch.randint(period, (b,), generator=generator),
    )

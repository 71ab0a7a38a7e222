"""Every random number of a run, sampled from (seed, step) alone.

A resumed run therefore needs no saved random state, and samples what the uninterrupted run would have
sampled. Sampling is done on the CPU, so that the numbers are the same for every device.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from v2w_convert.noise import Noise


@dataclass(frozen=True)
class BatchSamples:
    """The random numbers of b clips of t latent frames.

    Attributes:
        level: Noise levels (b t) float32, in the unit of the noise kind, independent for every block (Chen
            et al., arXiv 2407.01392).
        noise: Noise (b t c h w) float32.
        dropped: (b t) bool: frames whose action is replaced by the learned "no action".
        offset: (b,) int64: where in the period of the positions a clip begins; None where positions have no
            period.
    """

    level: Tensor
    noise: Tensor
    dropped: Tensor
    offset: Tensor | None

    def select(self, clips: slice, device: str | torch.device = "cpu") -> "BatchSamples":
        """Return the numbers of some of the clips, on `device`."""
        offset = None if self.offset is None else self.offset[clips].to(device)
        return BatchSamples(
            self.level[clips].to(device), self.noise[clips].to(device), self.dropped[clips].to(device), offset
        )


def seed_of(*key: object) -> int:
    """A seed for torch that belongs to `key`, such as (run's seed, "step", 12)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def generator(*key: object) -> torch.Generator:
    """A random generator that belongs to `key`."""
    return torch.Generator().manual_seed(seed_of(*key))


def sample_clips(count: int, batch: int, generator: torch.Generator) -> list[int]:
    """Choose `batch` of the data's `count` clips: each equally likely, with replacement."""
    chosen: list[int] = torch.randint(count, (batch,), generator=generator).tolist()
    return chosen


def sample_batch(
    shape: tuple[int, ...],
    noise: Noise,
    action_dropout: float,
    period: int | None,
    generator: torch.Generator,
    frames_per_block: int = 1,
) -> BatchSamples:
    """Sample what a batch of clips needs.

    Args:
        shape: Shape (b t c h w) of the clips' latents.
        noise: The noise kind, which samples the levels.
        action_dropout: Share of frames whose action is dropped.
        period: The period of the positions, if they have one.
        generator: The generator.
        frames_per_block: Latent frames that share a noise level.
    """
    b, t = shape[:2]
    levels = noise.sample_training_levels((b, t // frames_per_block), generator)
    return BatchSamples(
        level=levels.repeat_interleave(frames_per_block, 1),
        noise=torch.randn(shape, generator=generator),
        dropped=torch.rand(b, t, generator=generator) < action_dropout,
        offset=None if period is None else torch.randint(period, (b,), generator=generator),
    )

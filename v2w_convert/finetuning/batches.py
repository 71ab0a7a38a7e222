"""Every random number of a run, sampled from (seed, step) alone.

A resumed run therefore needs no saved random state, and samples what the uninterrupted run would have
sampled. Sampling is done on the CPU, so that the numbers are the same for every device.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.noise import Noise
from v2w_convert.world.experts import LevelRange

POOL = 4096  # levels from which those in a range are taken
IN_RANGE = 0.5  # share of the blocks whose level is drawn in the range of the one expert that is trained


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
        weight: (b t) float32, of each frame's error in the loss, 1 on average over the batch; None: all count alike.
    """

    level: Tensor
    noise: Tensor
    dropped: Tensor
    offset: Tensor | None
    weight: Tensor | None = None

    def select(self, clips: slice, device: str | torch.device = "cpu") -> "BatchSamples":
        """Return the numbers of some of the clips, on `device`."""
        offset = None if self.offset is None else self.offset[clips].to(device)
        weight = None if self.weight is None else self.weight[clips].to(device)
        return BatchSamples(
            self.level[clips].to(device),
            self.noise[clips].to(device),
            self.dropped[clips].to(device),
            offset,
            weight,
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
    levels: LevelRange | None = None,
) -> BatchSamples:
    """Sample what a batch of clips needs.

    Args:
        shape: Shape (b t c h w) of the clips' latents.
        noise: The noise kind, which samples the levels.
        action_dropout: Share of frames whose action is dropped.
        period: The period of the positions, if they have one.
        generator: The generator.
        frames_per_block: Latent frames that share a noise level.
        levels: Of the one expert that is trained, if there are two: the loss is of frames in its range, and half of the
            blocks' levels are drawn there. The others are drawn from all levels, because in a rollout the expert
            reads a history outside of its range.
    """
    b, t = shape[:2]
    blocks = noise.sample_training_levels((b, t // frames_per_block), generator)
    if levels is not None:
        inside = torch.rand(blocks.shape, generator=generator) < IN_RANGE
        blocks = torch.where(inside, _sample_in(levels, noise, blocks.shape, generator), blocks)
    level = blocks.repeat_interleave(frames_per_block, 1)
    return BatchSamples(
        level=level,
        noise=torch.randn(shape, generator=generator),
        dropped=torch.rand(b, t, generator=generator) < action_dropout,
        offset=None if period is None else torch.randint(period, (b,), generator=generator),
        weight=None if levels is None else _mean_one(levels.contains(noise, level).float()),
    )


def _sample_in(
    levels: LevelRange, noise: Noise, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Random levels as in training, given that they are in the range."""
    pool = noise.sample_training_levels((1, POOL), generator)
    pool = pool[levels.contains(noise, pool)]
    if not len(pool):
        found = f"none of {POOL} levels that training visits is in its range, with the boundary {levels.boundary:g}"
        raise V2WError(f"train the {'high' if levels.high else 'low'}-noise expert", found, "expert both")
    return pool[torch.randint(len(pool), shape, generator=generator)]


def _mean_one(weight: Tensor) -> Tensor:
    """Zeros and ones -> the same share for each of the ones; all zeros stay."""
    return weight / weight.mean().clamp(min=torch.finfo(weight.dtype).tiny)

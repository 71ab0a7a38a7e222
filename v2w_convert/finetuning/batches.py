"""Every random number of a run, sampled from (seed, step, number of the clip in its batch) alone.

A resumed run therefore needs no saved random state, and samples what the uninterrupted run would have
sampled; so does a process that computes some of a batch's clips only. Sampling is done on the CPU, so that the numbers
are the same for every device.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from v2w_convert.finetuning.levels import IN_RANGE, Objective, loss_weight, sample_in_range, sample_levels
from v2w_convert.noise import Noise
from v2w_convert.world.experts import LevelRange

Key = TypeVar("Key", bound=str)
DRAFT = 0.9  # largest share of noise from which a frame of the history is predicted in one step


@dataclass(frozen=True)
class BatchSamples:
    """The random numbers of b clips of t latent frames.

    Attributes:
        level: Noise levels (b t) float32, in the unit of the noise kind, independent for every block (Chen
            et al., arXiv 2407.01392), but for those of a history.
        noise: Noise (b t c h w) float32.
        dropped: (b t) bool: frames whose action is replaced by the learned "no action".
        offset: (b,) int64: where in the period of the positions a clip begins; None where positions have no
            period, or all clips begin at 0.
        weight: (b t) float32, of each frame's error in the loss; None: all count alike.
        own: (b t) bool: frames that the model sees as its own prediction; None: none.
        draft_level: (b t) float32: the levels from which those are predicted; None with `own`.
        draft_noise: (b t c h w) float32: the noise from which they are; None with `own`.
        agrees: (b t) bool: frames of which the model itself says, in several steps, what is to be predicted. None: of none.
        agreeing_steps: So many.
    """

    level: Tensor
    noise: Tensor
    dropped: Tensor
    offset: Tensor | None
    weight: Tensor | None = None
    own: Tensor | None = None
    draft_level: Tensor | None = None
    draft_noise: Tensor | None = None
    agrees: Tensor | None = None
    agreeing_steps: int = 1

    def select(self, clips: slice, device: str | torch.device = "cpu") -> "BatchSamples":
        """Return the numbers of some of the clips, on `device`."""

        def some(value: Tensor | int | None) -> Any:
            return value[clips].to(device) if isinstance(value, Tensor) else value

        return BatchSamples(**{field.name: some(getattr(self, field.name)) for field in fields(self)})


def seed_of(*key: object) -> int:
    """A seed for torch that belongs to `key`, such as (run's seed, "step", 12)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def generator(*key: object) -> torch.Generator:
    """A random generator that belongs to `key`."""
    return torch.Generator().manual_seed(seed_of(*key))


def generators(count: int, *key: object) -> list[torch.Generator]:
    """A random generator for each clip of a batch."""
    return [generator(*key, number) for number in range(count)]


def sample_clips(count: int, chances: list[torch.Generator]) -> list[int]:
    """Choose of the data's `count` clips one for each generator: each equally likely, with replacement."""
    return [int(torch.randint(count, (), generator=chance)) for chance in chances]


def sample_dropped(shares: Mapping[Key, float], chances: list[torch.Generator]) -> dict[Key, list[bool]]:
    """Choose by each share which clips, one for each generator, lose something: name -> b decisions."""
    drawn = [torch.rand(len(shares), generator=chance).tolist() for chance in chances]
    return {name: [own[i] < share for own in drawn] for i, (name, share) in enumerate(shares.items())}


def sample_batch(
    shape: tuple[int, ...],
    noise: Noise,
    objective: Objective,
    period: int | None,
    chances: list[torch.Generator],
    frames_per_block: int = 1,
    levels: LevelRange | None = None,
) -> BatchSamples:
    """Sample what a batch of clips needs.

    Args:
        shape: Shape (t c h w) of a clip's latents.
        noise: The noise kind.
        objective: How levels and histories are drawn, and how errors count.
        period: The period of the positions, if they have one.
        chances: A generator for each of the b clips.
        frames_per_block: Latent frames that share a noise level.
        levels: Of the one expert that is trained, if there are two: the loss is of frames in its range, and half of the
            blocks' levels are drawn there. The others are drawn from all levels, because in a rollout the expert
            reads a history outside of its range.
    """
    clips = [
        _sample_clip(shape, noise, objective, period, chance, frames_per_block, levels) for chance in chances
    ]
    level, is_history, own, draft, agrees, dropped, offset, noises, *draft_noise = (
        torch.stack(parts) for parts in zip(*clips, strict=True)
    )
    agrees = agrees & ~is_history & (noise.share_of(level) > 0)
    weigh = objective.loss_weight != "none" or objective.loss_target != "own" or levels is not None
    weight = loss_weight(noise, level, objective, levels) if weigh else None
    if is_history.any():  # clean, it says nothing of what is to be predicted there
        weight = torch.where(is_history, 0.0, torch.ones_like(level) if weight is None else weight)
    return BatchSamples(
        level=level,
        noise=noises,
        dropped=dropped,
        offset=None if period is None or not objective.random_offsets else offset,
        weight=weight,
        own=own if draft_noise else None,
        draft_level=draft if draft_noise else None,
        draft_noise=draft_noise[0] if draft_noise else None,
        agrees=agrees if objective.consistency else None,
        agreeing_steps=objective.consistency_steps,
    )


def _sample_clip(
    shape: tuple[int, ...],
    noise: Noise,
    objective: Objective,
    period: int | None,
    chance: torch.Generator,
    frames_per_block: int,
    levels: LevelRange | None,
) -> tuple[Tensor, ...]:
    """Of one clip of t frames: level, whether it is history, whether it is the model's own, the level it is predicted from,
    whether it is to agree with what the model says in several steps, whether its action is dropped (t each); offset (); noise and, with
    `self_history`, noise to predict from (t c h w).

    Whatever the objective, numbers are drawn in this order, so that few of them change with it.
    """
    t = shape[0]
    blocks = t // frames_per_block

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=chance)

    dropped = uniform(t) < objective.action_dropout
    offset = torch.randint(period or 1, (), generator=chance)
    kind, first, second = uniform(3).tolist()
    level = sample_levels(noise, objective, (blocks,), chance)
    if levels is not None:
        inside = uniform(blocks) < IN_RANGE
        level = torch.where(inside, sample_in_range(noise, objective, levels, (blocks,), chance), level)
    noises = torch.randn(shape, generator=chance)

    is_self = kind < objective.self_history
    has_history = kind < objective.self_history + objective.clean_history and blocks > 1
    number = torch.arange(blocks)
    # Of the blocks at least the first is history and at least the last is not; of a history's, the first are the data's.
    least = 2 if is_self and blocks > 2 else 1
    length = least + int(first * (blocks - least)) if has_history else 0
    given = 1 + int(second * (length - 1)) if is_self else length
    is_history, own = number < length, (number >= given) & (number < length)
    if objective.history_noise is None:
        history = torch.full((blocks,), noise.history_level)
    else:
        history = objective.history_noise * uniform(blocks)
    level = torch.where(is_history, history, level)
    draft = torch.where(own, noise.level_at(DRAFT * uniform(blocks)), level)
    frames = [x.repeat_interleave(frames_per_block) for x in (level, is_history, own, draft)]
    draft_noise = [torch.randn(shape, generator=chance)] if objective.self_history else []
    agrees = (uniform() < objective.consistency).expand(t)
    return (*frames, agrees, dropped, offset, noises, *draft_noise)

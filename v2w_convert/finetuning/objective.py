"""Diffusion forcing: each block of a clip has a noise level of its own, and all are denoised at once.

Chen et al., arXiv 2407.01392; with actions and action dropout: Vid2World, arXiv 2505.14357, algorithm 1. A history of the
model's own one-step predictions: as in Stable Video Infinity (arXiv 2510.09212) and Resampling Forcing (arXiv 2512.15702). For few
denoising steps: what the model said in several steps when the run began is learned in one, as in progressive distillation
(Salimans and Ho, arXiv 2202.00512), but from every level at once and in one round.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from v2w_convert.finetuning.batches import BatchSamples, generators, sample_batch
from v2w_convert.finetuning.levels import plain
from v2w_convert.plan.call import Conditions
from v2w_convert.world.experts import AnyWorld, LevelRange


def loss(
    world: AnyWorld,
    latents: Tensor,
    actions: Tensor,
    samples: BatchSamples,
    conditions: Conditions | None = None,
    as_it_began: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """Mean squared error of the world's prediction, in the base's own prediction type, weighted by frame.

    Args:
        world: The world model.
        latents: Clean latents (b t c h w) float32.
        actions: Actions (b t a) float32; row i led from frame i - 1 to frame i. The first frame of a clip
            gets the learned "no action" from the world model itself.
        samples: The random numbers for these clips, on their device.
        conditions: Of these clips (b …), on their device; those that are not there are the model's own.
        as_it_began: Within it the world has the weights that the run began with, from which `consistency` learns.

    Returns:
        A float32 scalar.
    """
    conditions = conditions or {}
    seen = latents if samples.own is None else with_own_history(world, latents, actions, samples, conditions)
    noisy = world.noise.add_noise(seen, samples.noise, samples.level)
    clean, noise = latents, samples.noise
    if samples.agrees is not None and samples.agrees.any():
        with as_it_began():
            clean, noise = in_several_steps(world, latents, noisy, actions, samples, conditions)
    target = world.noise.target(clean, noise, samples.level)
    output = world(noisy, samples.level, actions, samples.dropped, offset=samples.offset, **conditions)
    if samples.weight is None:
        return F.mse_loss(output.float(), target)
    errors = F.mse_loss(output.float(), target, reduction="none")
    return (_frames(samples.weight) * errors).mean()


@torch.no_grad()
def with_own_history(
    world: AnyWorld, latents: Tensor, actions: Tensor, samples: BatchSamples, conditions: Conditions
) -> Tensor:
    """The clips as the model is to see them: frames of `samples.own` are what it predicts in one step.

    It predicts them all at once, each from its own noise, after the history's other frames, which are the data's.

    Args:
        world: The world model.
        latents: Clean latents (b t c h w).
        actions: As for `loss`, and the arguments that follow.
        samples: The random numbers.
        conditions: Of these clips.

    Returns:
        (b t c h w), without gradient.
    """
    assert samples.own is not None and samples.draft_level is not None and samples.draft_noise is not None
    rows = samples.own.any(1)
    if not rows.any():
        return latents
    own, level = samples.own[rows], samples.draft_level[rows]
    noisy = world.noise.add_noise(latents[rows], samples.draft_noise[rows], level)
    clean, _ = _predicted(world, noisy, level, rows, actions, samples, conditions)
    seen = latents.clone()
    seen[rows] = torch.where(_frames(own), clean, latents[rows])
    return seen


@torch.no_grad()
def in_several_steps(
    world: AnyWorld,
    latents: Tensor,
    noisy: Tensor,
    actions: Tensor,
    samples: BatchSamples,
    conditions: Conditions,
) -> tuple[Tensor, Tensor]:
    """What is to be predicted: the clean frames that the world comes to in several deterministic steps, which lower the
    share of noise evenly, and the noise that is then in `noisy`. Where `samples.agrees` is not set, those that are there.

    Args:
        world: The world model, with the weights to learn from.
        latents: Clean latents (b t c h w).
        noisy: At `samples.level`, as the model sees them.
        actions: As for `loss`, and the arguments that follow.
        samples: The random numbers.
        conditions: Of these clips.

    Returns:
        Both (b t c h w), without gradient.
    """
    assert samples.agrees is not None
    rows, kind = samples.agrees.any(1), world.noise
    begin, here = samples.level[rows], samples.agrees[rows]
    share, now, frames = kind.share_of(begin), begin, noisy[rows]
    for left in reversed(range(samples.agreeing_steps)):
        clean, noise = _predicted(world, frames, now, rows, actions, samples, conditions)
        now = torch.where(here, kind.level_at(share * (left / samples.agreeing_steps)), begin)
        lower = torch.where(_frames(now > 0), kind.add_noise(clean, noise, now), clean)
        frames = torch.where(_frames(here), lower, frames)
    alpha, sigma = (_frames(x) for x in kind.alpha_sigma(begin))
    left_over = (
        noisy[rows] - alpha * clean
    ) / sigma  # not finite where there is no noise, and not taken there
    targets = latents.clone(), samples.noise.clone()
    for target, found in zip(targets, (clean, left_over), strict=True):
        target[rows] = torch.where(_frames(here), found, target[rows])
    return targets


def _frames(values: Tensor) -> Tensor:
    """One value for each frame (b t), as it goes with frames (b t c h w)."""
    return values[..., None, None, None]


def _predicted(
    world: AnyWorld,
    noisy: Tensor,
    level: Tensor,
    rows: Tensor,
    actions: Tensor,
    samples: BatchSamples,
    conditions: Conditions,
) -> tuple[Tensor, Tensor]:
    """What the model predicts in one pass of the clips `rows` (b,) bool, which are given noisy: clean frames and noise."""
    output = world(
        noisy,
        level,
        actions[rows],
        samples.dropped[rows],
        offset=None if samples.offset is None else samples.offset[rows],
        **{name: value[rows] for name, value in conditions.items()},
    )
    return world.noise.to_clean_and_noise(output.float(), noisy, level)


@torch.no_grad()
def validation_loss(
    world: AnyWorld,
    latents: Tensor,
    actions: Tensor,
    seed: int,
    batch: int = 8,
    conditions: Conditions | None = None,
    levels: LevelRange | None = None,
) -> float:
    """The loss of diffusion forcing as it is defined, on fixed clips, whatever objective is trained with.

    So that runs of different objectives can be compared. Random numbers belong to `seed`; no action is dropped.

    Args:
        world: The world model; it is in its former mode afterwards.
        latents: Clean latents (n t c h w), on any device.
        actions: Actions (n t a), on any device.
        seed: The seed.
        batch: Clips that are run at a time.
        conditions: Of these clips (n …), on any device.
        levels: Those of the one expert that is trained, as for `sample_batch`.
    """
    samples = sample_batch(
        tuple(latents.shape[1:]),
        world.noise,
        plain(world.noise),
        world.resolved.period,
        generators(len(latents), seed, "validation"),
        world.frames_per_block,
        levels,
    )
    was_training = world.training
    world.eval()
    total = 0.0
    for clips in (slice(i, i + batch) for i in range(0, len(latents), batch)):
        given = latents[clips].to(world.device)
        own = {name: value[clips].to(world.device) for name, value in (conditions or {}).items()}
        value = loss(world, given, actions[clips].to(world.device), samples.select(clips, world.device), own)
        total += value.item() * len(given)
    world.train(was_training)
    return total / len(latents)

"""Diffusion forcing: each block of a clip has a noise level of its own, and all are denoised at once.

Chen et al., arXiv 2407.01392; with actions and action dropout: Vid2World, arXiv 2505.14357, algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from v2w_convert.finetuning.batches import BatchSamples, generator, sample_batch
from v2w_convert.plan.call import Conditions
from v2w_convert.world.experts import AnyWorld, LevelRange


def loss(
    world: AnyWorld,
    latents: Tensor,
    actions: Tensor,
    samples: BatchSamples,
    conditions: Conditions | None = None,
) -> Tensor:
    """Mean squared error of the world's prediction, in the base's own prediction type.

    Args:
        world: The world model.
        latents: Clean latents (b t c h w) float32.
        actions: Actions (b t a) float32; row i led from frame i - 1 to frame i. The first frame of a clip
            gets the learned "no action" from the world model itself.
        samples: The random numbers for these clips, on their device.
        conditions: Of these clips (b …), on their device; those that are not there are the model's own.

    Returns:
        A float32 scalar.
    """
    noisy = world.noise.add_noise(latents, samples.noise, samples.level)
    target = world.noise.target(latents, samples.noise, samples.level)
    output = world(noisy, samples.level, actions, samples.dropped, offset=samples.offset, **conditions or {})
    if samples.weight is None:
        return F.mse_loss(output.float(), target)
    errors = F.mse_loss(output.float(), target, reduction="none")
    return (samples.weight[..., None, None, None] * errors).mean()


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
    """The same loss on fixed clips, with random numbers that belong to `seed` and no action dropped.

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
        tuple(latents.shape),
        world.noise,
        0.0,
        world.resolved.period,
        generator(seed, "validation"),
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

"""Diffusion forcing: each frame of a clip is noised to a level of its own, and all are denoised at once.

Chen et al., arXiv 2407.01392; with actions and action dropout: Vid2World, arXiv 2505.14357, algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from v2w_convert.finetuning.batches import BatchSamples, generator, sample_batch
from v2w_convert.world.model import World


def loss(world: World, latents: Tensor, actions: Tensor, draws: BatchSamples) -> Tensor:
    """Mean squared error () float32 of the world's prediction, in the base's own prediction type.

    latents  (b t c h w) float32, clean
    actions  (b t a) float32, row t led from frame t - 1 to frame t; the first frame of a clip gets the learned
             "no action" from the world model itself
    draws    for these clips, on their device

    An anchor, where the base has one, is left zero, as in a rollout without conditions: given to every frame, the
    clean first frame would tell what that frame is asked for.
    """
    noisy = world.noise.add_noise(latents, draws.noise, draws.level)
    target = world.noise.target(latents, draws.noise, draws.level)
    output = world(noisy, draws.level, actions, draws.dropped, offset=draws.offset)
    return F.mse_loss(output.float(), target)


@torch.no_grad()
def validation_loss(world: World, latents: Tensor, actions: Tensor, seed: int, batch: int = 8) -> float:
    """The same loss on n fixed clips (n t c h w) and actions (n t a), with draws that belong to `seed`.

    All actions are given. The clips may lie on another device than the world; `batch` are run at a time.
    """
    chance = generator(seed, "validation")
    draws = sample_batch(
        tuple(latents.shape), world.noise, 0.0, world.resolved.period, chance, world.frames_per_block
    )
    was_training = world.training
    world.eval()
    total = 0.0
    for clips in (slice(i, i + batch) for i in range(0, len(latents), batch)):
        given = latents[clips].to(world.device)
        value = loss(world, given, actions[clips].to(world.device), draws.part(clips, world.device))
        total += value.item() * len(given)
    world.train(was_training)
    return total / len(latents)

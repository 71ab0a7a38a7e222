"""Rollouts in video frames: encode the history, generate latents, decode them."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.settings import SamplingSettings
from v2w_convert.noise import Noise
from v2w_convert.plan.call import Conditions
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.world.rollout import Sampling, StreamingModel, start_stream
from v2w_convert.world.temporal_compression import TemporalCompression
from v2w_convert.world.vae import VAE

HISTORY = 8  # video frames, where the settings do not say


def sampling_of(settings: SamplingSettings, manifest: Manifest, noise: Noise) -> Sampling:
    """The part of the settings that a stream takes, with the steps and levels of history that hold where they name none."""
    given, other = settings.context_noise, settings.history_guidance_noise
    if other is None and settings.history_guidance != 1:
        other = noise.max_level
    return Sampling(
        settings.steps or manifest.denoising_steps,
        settings.guidance,
        noise.history_level if given is None else given,
        settings.history_guidance,
        other,
    )


def check_sampling(settings: SamplingSettings, manifest: Manifest, noise: Noise) -> None:
    """`Noise.check_sampling` with the settings."""
    steps = settings.steps or manifest.denoising_steps
    noise.check_sampling(steps, settings.context_noise, settings.history_guidance_noise)


@torch.no_grad()
def rollout_frames(
    world: StreamingModel,
    vae: VAE,
    latents: Tensor,
    actions: Tensor,
    history: int,
    sampling: Sampling,
    seed: int | Sequence[int],
    conditions: Conditions | None = None,
) -> Iterator[Tensor]:
    """Generate the frames after `history` observed ones, and decode them as they come: memory does not grow with t.

    Of autoencoders that can only decode a clip whole (`Kind.chunks`), all frames come at the end.

    Where a latent frame holds several video frames, or latent frames are generated in blocks, the last block
    is generated whole, its last action repeated, and cut. The history's latents are decoded, too: an
    autoencoder that compresses time decodes the generated ones in their context.

    Args:
        world: The world model.
        vae: Its autoencoder.
        latents: (n j c h w), of the history's video frames at least.
        actions: (n t a), one per video frame, of history and generated frames.
        history: Observed video frames.
        sampling: How latents are sampled.
        seed: The seed of their noise, or n seeds, of each rollout's own.
        conditions: Of each rollout (n …); those that are not there are the model's own.

    Yields:
        Video frames (n m 3 height width) in [0, 1], on the CPU, of any m; t - history in all.
    """
    n, t = actions.shape[:2]
    compression = vae.packing
    observed = compression.latents(history)
    latents = latents[:, :observed]
    missing = compression.whole_blocks(t, world.frames_per_block) - t
    repeated = torch.cat([actions, actions[:, -1:].expand(-1, missing, -1)], 1)
    latent_actions = compression.actions(repeated)
    own: dict[str, Any] = {name: value.to(world.device) for name, value in (conditions or {}).items()}
    stream = start_stream(world, n, *latents.shape[-2:], sampling=sampling, seed=seed, **own)
    stream.observe(latents, latent_actions[:, :observed])
    needed = compression.latents(compression.whole_blocks(t))
    n_block = world.frames_per_block
    generated = (
        stream.step_block(latent_actions[:, j : j + n_block])[:, : needed - j]
        for j in range(observed, latent_actions.shape[1], n_block)
    )
    left = t - history
    for frames in vae.decode_blocks(chain([latents], generated), observed):
        yield frames[:, :left].cpu()
        left -= min(frames.shape[1], left)


def history_length(frames_per_block: int, compression: TemporalCompression, history: int | None) -> int:
    """Return how many video frames are observed: `history`, or without one 8 or the next number that fits.

    Whole latent frames fit, in whole blocks where the model takes blocks of them.

    Raises:
        V2WError: `history` does not fit.
    """
    fitting = compression.whole_blocks(history or HISTORY, frames_per_block)
    if history not in (None, fitting):
        found = [f"the model takes blocks of {frames_per_block}"] if frames_per_block > 1 else []
        found += [f"the autoencoder packs {compression}"] if compression.k > 1 else []
        raise V2WError(f"observe {history} frames", " and ".join(found), f"a history of {fitting} frames")
    return fitting

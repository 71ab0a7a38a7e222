"""The card of the base that ships: what it is, what it was trained on, and what was measured of it."""

from typing import Any

from examples.doom.pipeline.stages import Job, read_record


def base_card(job: Job) -> str:
    """The README.md of a base whose stages are finished."""
    recipe = job.recipe
    autoencoder, base = (read_record(job.folder(name))["figures"] for name in ("autoencoder", "base"))
    target, model = recipe.record.target, recipe.base.model
    seen = ", ".join(f"`{name}` ({frames:,})" for name, frames in recipe.record.pretraining.items())
    return f"""---
library_name: diffusers
license: mit
tags: [video, unconditional, doom]
---

# A small video model of ViZDoom, trained without actions

Stands in for a downloaded checkpoint, in diffusers' layout: an `AutoencoderKL` of {_millions(autoencoder)} parameters, 64×64 pixels to
8×8 latents of {recipe.autoencoder.model["latent_channels"]} channels, and a `UNetSpatioTemporalConditionModel` (Stable Video Diffusion's class) of {_millions(base)} on clips of
{model["num_frames"]} frames, the first one's latent beside each as there.

The denoiser was trained for {recipe.base.course.steps:,} steps on recorded frames of {seen}: never on `{target.scenario}`, which the world
model is for, and never with an action. The autoencoder was trained for {recipe.autoencoder.course.steps:,} steps on the same pictures and on those of
`{target.scenario}`, as published autoencoders have seen pictures of every kind.

| measured on held-out recordings | |
|---|---|
{chr(10).join(f"| autoencoder, PSNR, {name} | {value:.1f} dB |" for name, value in autoencoder["psnr_db"].items())}
| denoiser, v-loss, levels drawn evenly | {base["validation_loss"]:.3f} |

Made by `make world`; [how](../README.md). Pictures show assets of Freedoom (3-clause BSD): see `FREEDOOM-COPYING.txt` one folder up.
"""


def _millions(figures: dict[str, Any]) -> str:
    return f"{figures['parameters'] / 1e6:.1f} million"

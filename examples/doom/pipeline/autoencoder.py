"""The stage that trains the autoencoder: pictures to latents of an eighth of the size, and back."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from examples.doom.pipeline.pictures import (
    as_input,
    as_pixels,
    grid_pattern,
    psnr,
    read_frames,
    write_sheet,
)
from examples.doom.pipeline.record import data_sets
from examples.doom.pipeline.stages import Figures, Job
from examples.doom.pipeline.training import autocast, train

FLIP = 0.5  # without actions a mirrored world is as good as the world
KL = 1e-5  # weight of the pull to zero, by number of a latent
LATEST = 64  # held-out pictures by scenario that are looked at while it trains
PICTURES = 256  # … and in the end
SHOWN = 8
AT_ONCE = 64  # pictures


def run(job: Job) -> Figures:
    """The stage: `vae/`, `sheet.png`; figures on held-out recordings of every scenario."""
    settings, folder, device = job.recipe.autoencoder, job.folder("autoencoder"), job.device
    torch.manual_seed(settings.course.seed)
    model = AutoencoderKL(**settings.model).to(device, memory_format=torch.channels_last)
    # Published autoencoders have seen pictures of every kind. The target's are among them here; the base never sees them.
    names = [f"pretraining/{scenario}" for scenario in job.recipe.record.pretraining] + ["target/train"]
    pixels = torch.cat(read_frames(part for name in names for part in data_sets(job, name)))
    held_out = {
        name: torch.cat(read_frames(data_sets(job, f"validation/{name}")))
        for name in job.recipe.record.validation
    }
    target = f"{job.recipe.record.target.scenario} (target)"
    held_out[target] = torch.cat(read_frames(data_sets(job, "target/validation")))
    held_out = {name: spread(found, PICTURES) for name, found in held_out.items()}

    def loss_at(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (settings.course.batch,), generator=generator)
        batch = pixels[chosen]
        if torch.rand((), generator=generator) < FLIP:
            batch = batch.flip(-1)
        batch = as_input(batch.to(device)).contiguous(memory_format=torch.channels_last)
        with autocast(device):
            posterior = model.encode(batch).latent_dist
            # A trace of noise and a weak pull to zero keep the latents smooth and of one scale.
            noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
            decoded = model.decode(posterior.mean + posterior.std * noise).sample
        pull = posterior.kl().mean() / posterior.mean[0].numel()
        loss: Tensor = F.mse_loss(decoded.float(), batch) + KL * pull
        return loss

    def validate() -> dict[str, float]:
        write_sheet(
            [row for found in held_out.values() for row in both(model, spread(found, SHOWN))],
            folder / "sheet.png",
        )
        return {name: psnr(*through(model, spread(found, LATEST))) for name, found in held_out.items()}

    train(model, loss_at, validate, settings.course, folder, job.watch)
    return finish(model, spread(pixels, 2000), held_out, folder / "vae")


def spread(pictures: Tensor, count: int) -> Tensor:
    """At most `count` pictures, evenly from all."""
    return pictures[torch.linspace(0, len(pictures) - 1, min(count, len(pictures))).long()]


@torch.no_grad()
def through(model: AutoencoderKL, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (n 3 h w), encoded and decoded, and as they were; both in [-1, 1], on the CPU."""
    truth = as_input(pixels)
    parts = (part.to(model.device) for part in truth.split(AT_ONCE))
    return torch.cat([model.decode(model.encode(p).latent_dist.mode()).sample.cpu() for p in parts]), truth


def both(model: AutoencoderKL, pixels: Tensor) -> list[Any]:
    """Two rows of a sheet: the truth, and what comes back."""
    found, truth = through(model, pixels)
    return [as_pixels(truth), as_pixels(found)]


@torch.no_grad()
def encode(model: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Latents (n c h w) of pictures, on the CPU, not scaled."""
    parts = (as_input(part.to(model.device)) for part in pixels.split(AT_ONCE))
    return torch.cat([model.encode(part).latent_dist.mode().cpu() for part in parts])


def finish(model: AutoencoderKL, seen: Tensor, held_out: dict[str, Tensor], folder: Path) -> Figures:
    """Set the scale of the latents, save the autoencoder in half precision, and measure what was saved."""
    model.register_to_config(scaling_factor=round(1 / float(encode(model, seen).std()), 5))
    model.half().save_pretrained(folder)
    saved = load(folder, model.device)
    pairs = {name: through(saved, pixels) for name, pixels in held_out.items()}
    return {
        "parameters": sum(p.numel() for p in saved.parameters()),
        "psnr_db": {name: psnr(*pair) for name, pair in pairs.items()},
        "grid_pattern": {name: grid_pattern(*pair) for name, pair in pairs.items()},
    }


def load(folder: Path, device: torch.device) -> AutoencoderKL:
    """The autoencoder in a folder, float32, in eval mode."""
    return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).to(device).eval()

"""The stage that trains the base: a video model without actions, which sees both ways in time.

It stands for the large models that people convert: a clip in, a clip out, the first frame's latent beside the noisy ones.
"""

import json
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNetSpatioTemporalConditionModel
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from examples.doom.pipeline.autoencoder import FLIP, encode, load
from examples.doom.pipeline.pictures import as_pixels, read_frames, write_sheet
from examples.doom.pipeline.record import data_sets
from examples.doom.pipeline.stages import Figures, Job
from examples.doom.pipeline.training import autocast, train
from v2w_convert.new_file import new_file, write_text

NO_IMAGE_LATENTS = (
    0.2  # share of clips whose first-frame latent is replaced by zeros, so that both are legal later
)
TIME_IDS = [
    6.0,
    127.0,
    0.02,
]  # frames a second, motion, noise on the image latents: the family's usual constants
BATCHES = 24  # of held-out clips, by which it is measured
SHOWN = 4  # clips that are sampled to be looked at
SAMPLING_STEPS = 20
INDEX = {
    "_class_name": "StableVideoDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def run(job: Job) -> Figures:
    """The stage: `pipeline/`, a folder in diffusers' layout, and `sheet.png`: held-out clips, and sampled ones below each."""
    settings, folder, device = job.recipe.base, job.folder("base"), job.device
    autoencoder = load(job.folder("autoencoder") / "vae", device)
    clips = read_latents(job, autoencoder, "pretraining", list(job.recipe.record.pretraining))
    held_out = read_latents(job, autoencoder, "validation", list(job.recipe.record.validation))
    noise = DDIMScheduler(**settings.noise)
    torch.manual_seed(settings.course.seed)
    model = UNetSpatioTemporalConditionModel(**settings.model).to(device)
    length, batch = model.config.num_frames, settings.course.batch

    def loss_at(generator: torch.Generator, source: list[Tensor] = clips) -> Tensor:
        clip = draw_clips(source, length, batch, generator)
        level = torch.randint(noise.config.num_train_timesteps, (batch,), generator=generator)
        eps = torch.randn(clip.shape, generator=generator)
        shown = torch.rand(batch, generator=generator) >= NO_IMAGE_LATENTS
        image_latents = (clip[:, :1] * shown[:, None, None, None, None]).expand_as(clip)
        noisy = noise.add_noise(clip, eps, level)
        with autocast(device):
            output = call(model, noisy.to(device), level.to(device), image_latents.to(device))
        target = target_of(noise, clip, eps, level)
        return F.mse_loss(output.float(), target.to(device))

    def validate() -> dict[str, float]:
        clip = draw_clips(held_out, length, SHOWN, torch.Generator().manual_seed(0))
        sampled = sample(model, noise, clip[:, :1].expand_as(clip))
        decoded = [decode(autoencoder, x) for pair in zip(clip, sampled, strict=True) for x in pair]
        write_sheet(decoded, folder / "sheet.png")
        losses = [loss_at(torch.Generator().manual_seed(seed), held_out).item() for seed in range(BATCHES)]
        return {"loss": round(sum(losses) / len(losses), 5)}

    train(model, loss_at, validate, settings.course, folder, job.watch)
    pipeline = folder / "pipeline"
    shutil.copytree(job.folder("autoencoder") / "vae", pipeline / "vae", dirs_exist_ok=True)
    noise.save_pretrained(pipeline / "scheduler")
    model.half().save_pretrained(pipeline / "unet")
    write_text(pipeline / "model_index.json", json.dumps(INDEX, indent=2) + "\n", replace=True)
    model.float()  # as it was saved
    return {"parameters": sum(p.numel() for p in model.parameters()), "validation_loss": validate()["loss"]}


def read_latents(job: Job, autoencoder: AutoencoderKL, use: str, scenarios: list[str]) -> list[Tensor]:
    """Latents (2 t c h w) float16 of each episode, as seen and mirrored; encoded once, a part at a time."""
    scale, found = autoencoder.config.scaling_factor, []
    for part in (part for scenario in scenarios for part in data_sets(job, f"{use}/{scenario}")):
        file = job.folder("base") / "latents" / use / f"{part.name}.safetensors"
        if not file.exists():
            both = (torch.cat([pixels, pixels.flip(-1)]) for pixels in read_frames([part]))
            latents = {
                f"{number:05d}": (encode(autoencoder, pixels) * scale)
                .half()
                .unflatten(0, (2, -1))
                .contiguous()
                for number, pixels in enumerate(both)
            }
            file.parent.mkdir(parents=True, exist_ok=True)
            with new_file(file) as partial:
                save_file(latents, partial)
        found += [latents for _, latents in sorted(load_file(file).items())]
    return found


def draw_clips(episodes: list[Tensor], length: int, batch: int, generator: torch.Generator) -> Tensor:
    """Clips (b t c h w) float32. Episodes weigh by their length, so that every clip is equally likely."""
    weights = torch.tensor([float(max(e.shape[1] - length + 1, 0)) for e in episodes])
    clips = []
    for index in torch.multinomial(weights, batch, replacement=True, generator=generator).tolist():
        start = int(torch.randint(episodes[index].shape[1] - length + 1, (), generator=generator))
        mirrored = int(torch.rand((), generator=generator) < FLIP)
        clips.append(episodes[index][mirrored, start : start + length])
    return torch.stack(clips).float()


def target_of(noise: DDIMScheduler, clip: Tensor, eps: Tensor, level: Tensor) -> Tensor:
    """What the model is to say, by the scheduler's `prediction_type`."""
    if noise.config.prediction_type == "v_prediction":
        velocity: Tensor = noise.get_velocity(clip, eps, level)
        return velocity
    return {"sample": clip, "epsilon": eps}[noise.config.prediction_type]


def call(
    model: UNetSpatioTemporalConditionModel, noisy: Tensor, level: Tensor, image_latents: Tensor
) -> Tensor:
    """The model's output (b t c h w) for noisy latents at levels (b), with no text."""
    b, device = len(noisy), noisy.device
    text = torch.zeros(b, 1, model.config.cross_attention_dim, device=device)
    time_ids = torch.tensor([TIME_IDS], device=device).expand(b, -1)
    output: Tensor = model(torch.cat([noisy, image_latents], dim=2), level, text, time_ids).sample
    return output


@torch.no_grad()
def sample(model: UNetSpatioTemporalConditionModel, noise: DDIMScheduler, image_latents: Tensor) -> Tensor:
    """Clips (b t c h w) that the model makes of first frames; always from the same noise."""
    device = model.device
    steps = DDIMScheduler.from_config(noise.config)
    steps.set_timesteps(SAMPLING_STEPS)
    generator = torch.Generator().manual_seed(0)
    now, shown = torch.randn(image_latents.shape, generator=generator).to(device), image_latents.to(device)
    for level in steps.timesteps:
        output = call(model, now, level.expand(len(now)).to(device), shown)
        now = steps.step(output, level, now).prev_sample
    return now


@torch.no_grad()
def decode(autoencoder: AutoencoderKL, latents: Tensor) -> NDArray[np.uint8]:
    """Frames (t h w 3) of scaled latents (t c h w)."""
    scaled = latents.to(autoencoder.device) / autoencoder.config.scaling_factor
    return as_pixels(autoencoder.decode(scaled).sample)

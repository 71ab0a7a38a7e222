"""Train the small video model that stands in for a downloaded one: an autoencoder, then a denoiser.

    python examples/doom/pretrain.py autoencoder --data DIR ... --validation DIR ... --output BASE --steps 6000 --lr 1e-3
    python examples/doom/pretrain.py denoiser    --data DIR ... --validation DIR ... --output BASE --steps 2800 --lr 6e-4

And, once the base has become a world model of some scenario, fit the decoder to how that scenario looks
(as GameNGen does, arXiv 2408.14837, "Latent decoder fine-tuning"); the latents, and so the denoiser, stay as they are:

    python examples/doom/pretrain.py decoder --data DIR --validation DIR --output WORLD --steps 1000

The base never sees an action, nor the scenario that the world model is for: a clip in, a clip out, both
ways in time, like the large models that it stands for. The result is a pipeline folder in
diffusers' layout. Training resumes where it was stopped; every random number is drawn from
(seed, step), so an interrupted run and an unbroken one give the same weights.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNetSpatioTemporalConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from v2w_convert.data import open_dataset
from v2w_convert.finetuning.loss_curve import draw_curves

CLIP = 12  # frames
FLIP = 0.5  # without actions a mirrored world is as good as the world
TEXTURE = 3.0  # in the decoder's loss, the weight of how strong the fine detail is beside the squared error
NO_IMAGE_LATENTS = (
    0.2  # share of clips whose first-frame latent is replaced by zeros, so that both are legal later
)
TIME_IDS = [
    6.0,
    127.0,
    0.02,
]  # frames per second, motion, noise on the image latents: the family's usual constants
WEIGHTS = "diffusion_pytorch_model"

AUTOENCODER = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 64, 128],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,  # more, and a norm of few channels takes away how bright a picture is
    "sample_size": 64,
}
DENOISER: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
    "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
    "block_out_channels": [64, 128],
    "num_attention_heads": [2, 4],
    "layers_per_block": 1,
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,
    "cross_attention_dim": 32,
    "num_frames": CLIP,
}
# Zero signal at the last step, so that sampling may start from pure noise.
NOISE = {
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
}


def frames_of(folders: list[Path]) -> list[Tensor]:
    """Episodes (t, 3, height, width) uint8."""
    return [
        torch.from_numpy(e.frames).permute(0, 3, 1, 2)
        for folder in folders
        for e in open_dataset(folder).episodes()
    ]


def as_input(pixels: Tensor) -> Tensor:
    """uint8 pixels as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def train(
    model: torch.nn.Module,
    name: str,
    loss_at: Callable[[torch.Generator], Tensor],
    options: argparse.Namespace,
) -> EMAModel:
    """AdamW, warm-up and cosine decay; resumes from `<output>/<name>.train.pt`; returns the averaged weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.01, fused=True)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=100, num_training_steps=options.steps)
    ema = EMAModel(model.parameters(), decay=0.998, foreach=True)
    state_file, log_file = options.output / f"{name}.train.pt", options.output / f"{name}.jsonl"
    options.output.mkdir(parents=True, exist_ok=True)
    step = 0
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        ema.load_state_dict(state["ema"])
        step = state["step"]
    started, began, losses = time.monotonic(), step, []
    while step < options.steps:
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        loss = loss_at(generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(model.parameters())
        step += 1
        losses.append(loss.item())
        if step % 50 == 0:
            seconds = (time.monotonic() - started) / (step - began)
            line = {
                "step": step,
                "loss": round(float(np.mean(losses)), 5),
                "seconds_per_step": round(seconds, 3),
            }
            losses = []
            with log_file.open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(f"{name} {line}, {seconds * (options.steps - step) / 60:.0f} minutes left", flush=True)
        if step % 250 == 0 or step == options.steps:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.state_dict(),
            }
            partial = state_file.with_suffix(".partial")
            torch.save(state | {"schedule": schedule.state_dict(), "step": step}, partial)
            partial.replace(state_file)
    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    points = [(line["step"], line["loss"]) for line in lines]
    draw_curves({"training": points}, f"{name}: loss (means of 50 steps)", options.output / f"{name}.png")
    return ema


def train_autoencoder(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    model = AutoencoderKL(**AUTOENCODER).to(memory_format=torch.channels_last)
    pixels = torch.cat(frames_of(options.data))

    def loss_at(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (16,), generator=generator)
        batch = as_input(pixels[chosen])
        if torch.rand((), generator=generator) < FLIP:
            batch = batch.flip(-1)
        posterior = model.encode(batch).latent_dist
        # A trace of noise and a weak pull to zero keep the latents smooth and of one scale.
        loss: Tensor = (
            F.mse_loss(model.decode(posterior.sample(generator)).sample, batch)
            + 1e-5 * posterior.kl().mean() / 256
        )
        return loss

    train(model, "vae", loss_at, options).copy_to(model.parameters())
    model.eval()
    with torch.no_grad():
        latents = torch.cat([model.encode(as_input(p)).latent_dist.mode() for p in pixels[::37].split(64)])
    model.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    finish_autoencoder(model, "vae", options)


def texture(pixels: Tensor) -> Tensor:
    """How strong the fine detail is, (b 6 h/8 w/8): root mean square step to the next pixel, across and down.

    The squared error alone paints a mean where it can't know the grain: less and less of it from frame to frame.
    """
    across = F.pad(pixels.diff(dim=-1), (0, 1))
    down = F.pad(pixels.diff(dim=-2), (0, 0, 0, 1))
    return (F.avg_pool2d(torch.cat([across, down], dim=1).square(), 8) + 1e-5).sqrt()


def train_decoder(options: argparse.Namespace) -> None:
    """Go on with the decoder alone."""
    model = AutoencoderKL.from_pretrained(options.output / "vae", torch_dtype=torch.float32)
    pixels = torch.cat(frames_of(options.data))
    with torch.no_grad():
        latents = torch.cat([model.encode(as_input(p)).latent_dist.mode().half() for p in pixels.split(64)])
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)

    def loss_at(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (32,), generator=generator)
        truth = as_input(pixels[chosen])
        decoded = model.decode(latents[chosen].float()).sample
        return F.mse_loss(decoded, truth) + TEXTURE * F.mse_loss(texture(decoded), texture(truth))

    train(model, "decoder", loss_at, options).copy_to(model.parameters())
    finish_autoencoder(model.eval(), "decoder", options)


@torch.no_grad()
def finish_autoencoder(model: AutoencoderKL, name: str, options: argparse.Namespace) -> None:
    """Measure it on the validation sets and save it."""
    figures = {}
    for folder in options.validation:
        batch = as_input(torch.cat(frames_of([folder]))[::5])
        decoded = model.decode(model.encode(batch).latent_dist.mode()).sample.clamp(-1, 1)
        mse = ((decoded - batch) / 2).pow(2).mean((1, 2, 3))
        figures[folder.name] = round(float((-10 * mse.log10()).mean()), 2)
    print("validation PSNR (dB):", figures, "scaling factor", model.config.scaling_factor)
    record = {"validation_psnr_db": figures, "steps": options.steps}
    (options.output / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    model.half().save_pretrained(options.output / "vae")


def train_denoiser(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    autoencoder = AutoencoderKL.from_pretrained(options.output / "vae", torch_dtype=torch.float32).eval()
    noise = DDIMScheduler(**NOISE)
    model = UNetSpatioTemporalConditionModel(**DENOISER)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    clips, held_out = (
        encode(autoencoder, frames_of(f), options.output) for f in (options.data, options.validation)
    )

    def loss_at(generator: torch.Generator, source: list[Tensor] = clips, batch: int = 8) -> Tensor:
        # Episodes weigh by their length, so that every clip is equally likely.
        weights = torch.tensor([float(max(e.shape[1] - CLIP + 1, 0)) for e in source])
        chosen = torch.multinomial(weights, batch, replacement=True, generator=generator)
        latents = []
        for index in chosen.tolist():
            start = int(torch.randint(source[index].shape[1] - CLIP + 1, (), generator=generator))
            mirrored = int(torch.rand((), generator=generator) < FLIP)
            latents.append(source[index][mirrored, start : start + CLIP])
        clip = torch.stack(latents).float()
        level = torch.randint(noise.config.num_train_timesteps, (batch,), generator=generator)
        eps = torch.randn(clip.shape, generator=generator)
        shown = torch.rand(batch, generator=generator) >= NO_IMAGE_LATENTS
        image_latents = (clip[:, :1] * shown[:, None, None, None, None]).expand_as(clip)
        output = model(
            torch.cat([noise.add_noise(clip, eps, level), image_latents], dim=2),
            level,
            torch.zeros(batch, 1, DENOISER["cross_attention_dim"]),
            torch.tensor([TIME_IDS]).expand(batch, -1),
        ).sample
        return F.mse_loss(output, noise.get_velocity(clip, eps, level))

    train(model, "unet", loss_at, options).copy_to(model.parameters())
    model.eval()
    with torch.no_grad():
        seeds = range(24)
        loss = float(np.mean([loss_at(torch.Generator().manual_seed(s), held_out).item() for s in seeds]))
    print(f"validation loss {loss:.4f}")
    (options.output / "unet.json").write_text(
        json.dumps({"validation_v_loss": round(loss, 4), "steps": options.steps}, indent=2) + "\n"
    )
    model.half().save_pretrained(options.output / "unet")
    noise.save_pretrained(options.output / "scheduler")
    index = {
        "_class_name": "StableVideoDiffusionPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (options.output / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, episodes: list[Tensor], output: Path) -> list[Tensor]:
    """Latents (2, t, c, h, w) float16 of each episode, as seen and mirrored."""
    scale = autoencoder.config.scaling_factor
    both = []
    for pixels in episodes:
        batch = as_input(torch.cat([pixels, pixels.flip(-1)]))
        latents = autoencoder.encode(batch).latent_dist.mode() * scale
        both.append(latents.half().unflatten(0, (2, len(pixels))))
    return both


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["autoencoder", "denoiser", "decoder"])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data sets; actions are ignored")
    parser.add_argument("--validation", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True, help="the pipeline folder")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    {"autoencoder": train_autoencoder, "denoiser": train_denoiser, "decoder": train_decoder}[options.stage](
        options
    )


if __name__ == "__main__":
    main()

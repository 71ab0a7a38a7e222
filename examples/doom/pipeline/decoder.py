"""Fit the decoder of a world model to how its scenario looks; the latents, and so the denoiser, stay as they are.

    python -m examples.doom.pipeline.decoder --data DIR --validation DIR --world WORLD --steps 1000

As GameNGen does (arXiv 2408.14837, "Latent decoder fine-tuning"). The squared error alone paints a mean where it can't know
the grain, less and less of it from frame to frame; so the loss has a second part: how strong the fine detail is.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from examples.doom.pipeline.autoencoder import encode, load, through
from examples.doom.pipeline.pictures import as_input, grid_pattern, psnr, read_frames, texture
from examples.doom.pipeline.recipe import Course
from examples.doom.pipeline.training import train
from v2w_convert.checkpoint.digests import file_digest
from v2w_convert.device import resolve_device
from v2w_convert.errors import V2WError
from v2w_convert.new_file import write_text
from v2w_convert.strict_json import read_object
from v2w_convert.surgery.manifest import MANIFEST

TEXTURE = 3.0  # weight of how strong the fine detail is, beside the squared error


def fit(
    world: Path, data: list[Path], validation: list[Path], course: Course, device: torch.device
) -> dict[str, float]:
    """Train the decoder in `world`/vae; figures of it. Checkpoint and log lie beside `world`, in WORLD-decoder."""
    folder = world.with_name(f"{world.name}-decoder")
    folder.mkdir(exist_ok=True)
    model = load(world / "vae", device)
    pixels, held_out = (torch.cat(read_frames(folders)) for folders in (data, validation))
    latents = encode(model, pixels).half()
    for part in (model.encoder, model.quant_conv):
        part.requires_grad_(False)

    def loss_at(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (course.batch,), generator=generator)
        truth = as_input(pixels[chosen].to(device))
        decoded = model.decode(latents[chosen].float().to(device)).sample
        return F.mse_loss(decoded, truth) + TEXTURE * F.mse_loss(texture(decoded), texture(truth))

    def validate() -> dict[str, float]:
        found = through(model, held_out)
        return {"psnr_db": psnr(*found), "grid_pattern": grid_pattern(*found)}

    train(model, loss_at, validate, course, folder)
    config = world / "vae/config.json"
    before = config.read_text("utf-8")
    model.half().save_pretrained(world / "vae")
    write_text(config, before, replace=True)  # diffusers adds the path that it was read from
    record(world, "vae/diffusion_pytorch_model.safetensors")
    model.float()
    return validate()


def record(world: Path, file: str) -> None:
    """Set the digest of a file that was written anew, where the world has a manifest."""
    manifest = world / MANIFEST
    if manifest.exists():
        said = read_object(manifest)
        said["result"][file] = file_digest(world / file)
        write_text(manifest, json.dumps(said, indent=1, allow_nan=False) + "\n", replace=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--world", type=Path, required=True, help="the folder of `v2w finetune`; its vae is replaced"
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data sets; actions are ignored")
    parser.add_argument("--validation", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    try:
        course = Course(steps=options.steps, lr=options.lr, batch=32, validate_every=250)
        device = resolve_device(options.device)
        print(json.dumps(fit(options.world, options.data, options.validation, course, device)))
    except V2WError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

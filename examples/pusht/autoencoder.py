"""Fit a base's autoencoder to other pictures: a copy of the base, whose autoencoder knows how they look.

    python -m examples.pusht.autoencoder --base examples/doom/base --data DIR --validation DIR --steps 500 -o BASE

What an autoencoder cannot hold, no world model can show. The denoiser is copied as it is; it learns the new latents when
it is finetuned. A run that was stopped goes on with the same command.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from examples.doom.pipeline.autoencoder import KL, both, finish, load, spread, through
from examples.doom.pipeline.pictures import as_input, psnr, read_frames, write_sheet
from examples.doom.pipeline.recipe import Course
from examples.doom.pipeline.stages import Figures
from examples.doom.pipeline.training import train
from v2w_convert.device import resolve_device
from v2w_convert.errors import V2WError

SHOWN = 8


def fit(
    base: Path, data: Path, validation: Path, course: Course, output: Path, device: torch.device
) -> Figures:
    """Copy `base` to `output` and train its autoencoder, all of it, on the frames in `data`; figures on `validation`.

    Checkpoint, log and a sheet lie beside `output`, in OUTPUT-autoencoder.

    Raises:
        V2WError: `output` exists, or as `train`.
    """
    if output.exists():
        raise V2WError(f"fit the autoencoder of {base}", f"{output} exists", "a new folder")
    folder = output.with_name(f"{output.name}-autoencoder")
    folder.mkdir(parents=True, exist_ok=True)
    model = load(base / "vae", device).to(memory_format=torch.channels_last)
    pixels, held_out = (torch.cat(read_frames([each])) for each in (data, validation))
    held_out = spread(held_out, 64)
    before = psnr(*through(model, held_out))

    def loss_at(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (course.batch,), generator=generator)
        truth = as_input(pixels[chosen].to(device)).contiguous(memory_format=torch.channels_last)
        posterior = model.encode(truth).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        decoded = model.decode(posterior.mean + posterior.std * noise).sample
        pull = posterior.kl().mean() / posterior.mean[0].numel()
        loss: Tensor = F.mse_loss(decoded, truth) + KL * pull
        return loss

    def validate() -> dict[str, float]:
        write_sheet(both(model, spread(held_out, SHOWN)), folder / "sheet.png")
        return {"psnr_db": psnr(*through(model, held_out))}

    train(model, loss_at, validate, course, folder)
    stage = folder / "base"
    shutil.rmtree(stage, ignore_errors=True)  # of a run that was killed
    shutil.copytree(base, stage, ignore=shutil.ignore_patterns("vae", "training", "README.md"))
    figures = finish(model, spread(pixels, 500), {"after": held_out}, stage / "vae")
    stage.rename(output)
    return {"before": before, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="a folder with an AutoencoderKL in vae/")
    parser.add_argument("--data", type=Path, required=True, help="a data set; its actions are ignored")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8, help="frames a step")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    options = parser.parse_args()
    try:
        course = Course(steps=options.steps, lr=options.lr, batch=options.batch, validate_every=100)
        device = resolve_device(options.device)
        found = fit(options.base, options.data, options.validation, course, options.output, device)
        print(json.dumps(found))
    except V2WError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

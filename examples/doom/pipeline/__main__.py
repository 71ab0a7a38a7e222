"""Make a world from nothing, stage by stage; the same command goes on where it was stopped.

    python -m examples.doom.pipeline --output build/world --device auto

`world.html` in the output folder shows how far it is.
"""

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from examples.doom.pipeline import autoencoder, base, record, world
from examples.doom.pipeline.page import write_page
from examples.doom.pipeline.recipe import read_recipe
from examples.doom.pipeline.stages import Job, Stage, perform
from v2w_convert.device import resolve_device
from v2w_convert.errors import V2WError

RECIPE = Path(__file__).parent / "recipes/world.json"
STAGES = [
    Stage(
        "record", "Recorded play: what the models are trained on, and what they are measured on.", record.run
    ),
    Stage(
        "autoencoder",
        "Pictures to latents and back. Below each held-out row, what comes back.",
        autoencoder.run,
    ),
    Stage(
        "base",
        "A video model without actions. Below each held-out clip, one made of its first frame.",
        base.run,
    ),
    Stage(
        "convert",
        "The base made causal and given actions; every claim about that measured.",
        world.run_convert,
    ),
    Stage("finetune", "The world model, trained on the target's recordings.", world.run_finetune),
    Stage(
        "train_on",
        "The same, trained on at half the learning rate: long rollouts drift less.",
        world.run_train_on,
    ),
    Stage(
        "decoder", "The decoder, fitted to how the target looks; latents stay as they are.", world.run_decoder
    ),
    Stage(
        "evaluate", "What the world model is worth, on recordings that nothing has seen.", world.run_evaluate
    ),
    Stage("ship", "Base, world and data, as this folder has them.", world.run_ship),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/world"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument(
        "--until", choices=[stage.name for stage in STAGES], help="the last stage; default: all"
    )
    options = parser.parse_args()
    names = [stage.name for stage in STAGES]
    stages = STAGES[: names.index(options.until) + 1] if options.until else STAGES
    try:
        job = Job(read_recipe(options.recipe), options.output.resolve(), deterministic(options.device))
        perform(stages, replace(job, watch=partial(write_page, STAGES, job)))
    except V2WError as error:
        raise SystemExit(str(error)) from None


def deterministic(name: str) -> torch.device:
    """The device called `name`, on which the same is computed each time, where it has a way to."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first use of a card
    device = resolve_device(name)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    return device


if __name__ == "__main__":
    main()

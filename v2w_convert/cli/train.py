"""Training."""

from pathlib import Path
from typing import Annotated

import typer

from v2w_convert.cli.options import Camera, Converted, Data, Device, Json, Seed, present
from v2w_convert.errors import V2WError


def finetune(
    converted: Converted,
    data: Data,
    output: Annotated[
        Path, typer.Option("--output-dir", help="the run's folder; an unfinished run is resumed")
    ],
    steps: Annotated[int, typer.Option("--steps", help="optimizer steps")] = 1000,
    batch: Annotated[int, typer.Option("--batch", help="clips to a step")] = 8,
    gradient_accumulation: Annotated[
        int, typer.Option("--gradient-accumulation", help="parts of a batch")
    ] = 1,
    frames: Annotated[int, typer.Option("--frames", help="latent frames to a clip")] = 16,
    lr: Annotated[
        float, typer.Option("--lr", help="peak learning rate; 1e-5 for a base of a billion")
    ] = 3e-4,
    lr_scheduler: Annotated[str, typer.Option("--lr-scheduler", help="as in diffusers")] = "cosine",
    action_dropout: Annotated[
        float, typer.Option("--action-dropout", help="share of actions left out")
    ] = 0.2,
    ema_decay: Annotated[float, typer.Option("--ema-decay", help="of the weights that are kept")] = 0.999,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="save memory")
    ] = False,
    mixed_precision: Annotated[str, typer.Option("--mixed-precision", help="no, bf16 or fp16")] = "no",
    validation: Annotated[Path | None, typer.Option("--validation", help="a held-out data set")] = None,
    validate_every: Annotated[int, typer.Option("--validate-every", help="steps")] = 250,
    checkpoint_every: Annotated[int, typer.Option("--checkpoint-every", help="steps")] = 250,
    camera: Camera = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Complete the transfer on action data, by diffusion forcing. Run it again to resume."""
    given = {name: value for name, value in locals().items() if name not in ("converted", "output", "json")}
    for folder in filter(None, (converted, data, validation)):
        present(folder)
    from dataclasses import asdict

    from pydantic import ValidationError

    from v2w_convert.finetuning.settings import FinetuneSettings
    from v2w_convert.progress import ProgressEvent
    from v2w_convert.report import print_json, print_line, progress_bar

    try:
        settings = FinetuneSettings(**{name: value for name, value in given.items() if name != "data"})
    except ValidationError as error:
        faults = [f"--{'-'.join(map(str, e['loc'])).replace('_', '-')}: {e['msg']}" for e in error.errors()]
        raise V2WError("finetune", faults, "v2w finetune --help") from None
    from v2w_convert.finetuning.finetune import finetune as train

    with progress_bar("finetune", total=steps) as update:

        def show(now: ProgressEvent) -> None:
            update(
                completed=now.done,
                total=now.total,
                description=f"{now.task} {now.detail}, {now.seconds_left:.0f} s left",
            )

        result = train(converted, data, output, settings, progress=show)
    print_line(f"{output}: a world model after {steps} steps")
    if result.autoencoder is not None and result.autoencoder.sees_later_frames:
        print_line(
            f"{output}: the autoencoder's latents see later frames: the history it learnt from held traces of what comes next"
        )
    if json:
        print_json({"ok": True, **asdict(result)})

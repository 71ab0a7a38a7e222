"""`v2w finetune`."""

import shlex
from pathlib import Path
from typing import Annotated

from v2w_convert import api
from v2w_convert.cli.options import Converted, Data, Json, output_option, takes_settings
from v2w_convert.finetuning.settings import FinetuneSettings


@takes_settings
def finetune(
    converted: Converted,
    data: Data,
    output: Annotated[
        Path, output_option("RUN", "run folder: new, or an unfinished run, which is continued")
    ],
    settings: FinetuneSettings,
    json: Json = False,
) -> None:
    """Train a converted model on episodes with actions, by diffusion forcing.

    Run it again to continue a run that was interrupted.
    """
    from v2w_convert.console import print_line, print_result, show_progress

    with show_progress("finetune") as progress:
        result = api.finetune(converted, data, output, settings, progress=progress)
    print_line(f"{output}: a world model after {settings.steps} steps")
    validation = (
        "" if result.validation_loss is None else f", on validation data {result.validation_loss.last:.4f}"
    )
    print_line(f"{output}: loss {result.loss:.4f}{validation}; loss.png shows it")
    for name, source in result.conditions.items():
        print_line(f"{output}: the condition {name} is made of each episode's {source}")
    for note in result.notes:
        print_line(f"{output}: {note}")
    if result.autoencoder is not None and result.autoencoder.sees_later_frames:
        print_line(
            f"{output}: the autoencoder's latents depend on later frames, so the history in training held traces of "
            "the frames to predict"
        )
    if result.before is None:
        again = ["v2w", "finetune", str(output), "--data", str(data), "-o", "LONGER"]
        again += ["--config", str(output / "config.yaml"), "--lr", f"{settings.lr / 2:g}"]
        print_line(f"{output}: if long rollouts drift, which no loss shows, train on: {shlex.join(again)}")
    if json:
        print_result(result)

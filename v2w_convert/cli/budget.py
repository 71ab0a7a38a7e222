"""`v2w budget`."""

from typing import Annotated

import typer

from v2w_convert import api
from v2w_convert.cli.options import COMPUTE, Converted, Data, Json, takes_settings
from v2w_convert.finetuning.settings import FinetuneSettings

MAX_PROCESSES = 100_000


@takes_settings
def budget(
    converted: Converted,
    data: Data,
    settings: FinetuneSettings,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            metavar="N",
            min=1,
            max=MAX_PROCESSES,
            help="how many processes torchrun will start; the figures are of one",
            rich_help_panel=COMPUTE,
        ),
    ] = 1,
    json: Json = False,
) -> None:
    """Tell what `v2w finetune` with the same flags would take, and what to change if the device has less. Nothing is trained."""
    from v2w_convert.console import print_line, print_result, print_table
    from v2w_convert.finetuning.budget import gigabytes

    found = api.budget(converted, data, settings, processes=processes)
    rows = [
        (f"weights, {found.parameters:,} numbers", found.weights),
        (f"gradients, of {found.trained:,} that are trained", found.gradients),
        ("optimizer, and float32 copies of what is trained", found.optimizer),
        ("averaged weights", found.average),
        ("activations, at the peak of a step", found.activations),
        ("together", found.total),
        ("free", found.available),
        ("in the computer's memory instead", found.computer),
        ("on the disk: checkpoints and the model", found.disk),
    ]
    print_table(
        f"{converted}: finetuning on {found.device}"
        + (f", each of {processes} processes" if processes > 1 else ""),
        ["what", "takes"],
        [(what, "not known" if size is None else gigabytes(size)) for what, size in rows],
    )
    if found.fits:
        print_line("It fits.")
    else:
        print_line("It does not fit. With each of these, and those before it, together:")
        for line in found.advice:
            print_line(line)
    if json:
        print_result(found)

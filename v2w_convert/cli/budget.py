"""`v2w budget`."""

from v2w_convert import api
from v2w_convert.cli.options import Converted, Data, Json, takes_settings
from v2w_convert.finetuning.settings import FinetuneSettings


@takes_settings
def budget(converted: Converted, data: Data, settings: FinetuneSettings, json: Json = False) -> None:
    """Tell what `v2w finetune` with the same flags would take, and what to change if the device has less. Nothing is trained."""
    from v2w_convert.console import print_line, print_result, print_table
    from v2w_convert.finetuning.budget import gigabytes

    found = api.budget(converted, data, settings)
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
        f"{converted}: finetuning on {found.device}",
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

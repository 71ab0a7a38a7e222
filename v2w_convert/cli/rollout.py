"""`v2w rollout`."""

from pathlib import Path
from typing import Annotated

import typer

from v2w_convert import api
from v2w_convert.cli.options import Data, Json, output_option, takes_settings
from v2w_convert.evaluation.settings import RolloutSettings

World = Annotated[
    Path, typer.Argument(metavar="RUN", help="folder that `v2w finetune` or `v2w convert` wrote")
]


@takes_settings
def rollout(
    world: World,
    data: Data,
    output: Annotated[Path, output_option("FILE", "new .mp4, .gif or .png (contact sheet)")],
    settings: RolloutSettings,
    json: Json = False,
) -> None:
    """Generate a video beside the recorded one, and the same start with other actions."""
    from v2w_convert.console import print_line, print_result, show_progress

    with show_progress("rollout") as progress:
        result = api.rollout(world, data, output, settings, progress=progress)
    used = settings.model_dump(mode="json", exclude_defaults=True)
    lengths = f"{result.history} recorded frames, then {result.frames} generated"
    said = [f"{name.replace('_', ' ')} {value}" for name, value in used.items()]
    print_line(
        "; ".join([f"{output}: {' | '.join(result.panels)}", lengths, *([", ".join(said)] if said else [])])
    )
    if json:
        print_result(result)

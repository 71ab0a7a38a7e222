"""`v2w record`."""

from pathlib import Path
from typing import Annotated

import typer

from v2w_convert import api
from v2w_convert.cli.options import Json, output_option, takes_settings
from v2w_convert.recording.settings import RecordSettings


@takes_settings
def record(
    env: Annotated[
        str,
        typer.Argument(
            metavar="ENV", help="id of a Gymnasium environment, or MODULE:ID to import MODULE before"
        ),
    ],
    output: Annotated[Path, output_option("DATA", "folder to write: new or empty")],
    settings: RecordSettings,
    json: Json = False,
) -> None:
    """Record episodes of a Gymnasium environment as a data set. The environment and the policy are run."""
    from v2w_convert.console import print_line, print_result, show_progress

    with show_progress("record") as progress:
        result = api.record(env, output, settings, progress=progress)
    print_line(
        f"{output}: {result.episodes} episodes, {result.frames} frames of {result.height} x {result.width}, "
        f"{result.fps} a second; actions {', '.join(result.actions)}"
    )
    if json:
        print_result(result)

"""`v2w play`."""

from pathlib import Path
from typing import Annotated

import typer

from v2w_convert import api
from v2w_convert.cli.options import FILES, Json, takes_settings
from v2w_convert.playing.settings import PlaySettings

World = Annotated[
    Path, typer.Argument(metavar="RUN", help="folder that `v2w finetune` or `v2w convert` wrote")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="data set whose episodes a visit can begin from; default: those whose first frames are kept with the model",
        rich_help_panel=FILES,
    ),
]


@takes_settings
def play(world: World, settings: PlaySettings, data: Data = None, json: Json = False) -> None:
    """Serve a page in which visitors step into the model. Ctrl-C ends it.

    With --json, one line when the page can be opened.
    """
    from v2w_convert.console import print_line, print_result, show_progress
    from v2w_convert.playing.result import PlayResult

    with show_progress("play") as progress:

        def ready(result: PlayResult) -> None:
            print_line(f"{result.world}: play at {result.url} (Ctrl-C ends it)")
            if json:
                print_result(result)

        api.play(world, data, settings, progress=progress, ready=ready)

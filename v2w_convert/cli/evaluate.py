"""`v2w evaluate`."""

from pathlib import Path
from typing import Annotated

from v2w_convert import api
from v2w_convert.cli.options import Data, Json, output_option, takes_settings
from v2w_convert.cli.rollout import World
from v2w_convert.evaluation.settings import EvaluateSettings


@takes_settings
def evaluate(
    world: World,
    data: Data,
    settings: EvaluateSettings,
    output: Annotated[
        Path | None,
        output_option(
            "OUTPUT", "new folder for a page, videos and figures; a name in .json: the figures alone"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure picture quality by horizon, action following, and drift in long rollouts.

    Every figure stands beside baselines and has a bootstrap interval over episodes.
    """
    from v2w_convert.console import print_line, print_result, print_table, show_progress

    with show_progress("evaluate") as progress:
        result = api.evaluate(world, data, settings, output=output, progress=progress)
    from v2w_convert.evaluation.tables import tables

    used = ", ".join(f"{name} {value}" for name, value in result.settings.items() if value is not None)
    print_line(
        f"{result.world} on {result.clips} clips of {result.episodes} episodes of {result.data}; {used}"
    )
    for table in tables(result):
        print_table(*table)
    if output is not None:
        what = "the figures" if output.suffix == ".json" else "report.html, figures.json, videos"
        print_line(f"{output}: {what}")
    if json:
        print_result(result)

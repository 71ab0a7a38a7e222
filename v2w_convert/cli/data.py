"""`v2w data`."""

from pathlib import Path
from typing import Annotated

import typer

from v2w_convert import api
from v2w_convert.cli.options import Json, output_option, takes_settings
from v2w_convert.data.describe_settings import DescribeSettings


@takes_settings
def data(
    path: Annotated[Path, typer.Argument(metavar="DATA", help="data set of episodes")],
    settings: DescribeSettings,
    output: Annotated[
        Path | None, output_option("SHEET", "new .png: frames of the first episodes, with their actions")
    ] = None,
    json: Json = False,
) -> int:
    """Show what was understood of a data set: counts, sizes, rates, ranges of actions, and faults.

    Reads the description and all actions, and decodes a few episodes. Exit 1 if a fault is found.
    """
    from v2w_convert.console import print_line, print_result, print_table, show_progress

    with show_progress("data") as progress:
        found = api.describe_data(path, settings, sheet=output, progress=progress)
    size = "not known" if found.height is None else f"{found.height} x {found.width}"
    lengths = f"{found.shortest:,}" + (f" to {found.longest:,}" if found.longest > found.shortest else "")
    rows = [
        ("format", found.format),
        ("episodes", f"{found.episodes:,}, of {lengths} frames"),
        ("frames", f"{found.frames:,}, {found.seconds / 60:,.1f} minutes at {found.fps:g} a second"),
        ("height x width", size),
        ("camera", _camera(found.camera, found.cameras)),
        ("tasks", "; ".join(found.tasks) or "none"),
    ]
    print_table(str(path), ["what", "found"], rows)
    print_table(
        f"actions: {len(found.actions)} numbers",
        ["number", "kind", "least", "largest", "mean", "deviation"],
        [
            (each.name, each.kind, *map(_short, (each.min, each.max, each.mean, each.std)))
            for each in found.actions
        ],
    )
    for note in found.notes:
        print_line(f"{path}: {note}")
    for fault in found.faults:
        print_line(f"{path}: fault: {fault}")
    if found.sheet is not None:
        print_line(f"{found.sheet}: frames and actions")
    if json:
        print_result(found)
    return 0 if found.ok else 1


def _camera(chosen: str, cameras: list[str]) -> str:
    return chosen if cameras == [chosen] else f"{chosen}, of {', '.join(cameras)}"


def _short(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"

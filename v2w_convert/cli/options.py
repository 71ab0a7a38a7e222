"""Arguments and checks that several commands share. Nothing heavy is imported here."""

from pathlib import Path
from typing import Annotated

import typer

from v2w_convert.errors import V2WError

Base = Annotated[
    Path,
    typer.Argument(
        metavar="BASE",
        help="a diffusers model or pipeline folder, one .ckpt or .safetensors file, or a Hub id (OWNER/NAME)",
    ),
]
Converted = Annotated[
    Path, typer.Argument(metavar="OUT", help="a folder that `v2w convert` or `v2w finetune` made")
]
Json = Annotated[
    bool, typer.Option("--json", help="print one JSON object as the last line of standard output")
]
Data = Annotated[Path, typer.Option("--data", help="a data set of recorded episodes")]
Camera = Annotated[
    str | None, typer.Option("--camera", help="which video of the data set, where there are several")
]
Device = Annotated[str, typer.Option("--device", help="where to compute: cpu, cuda, cuda:1, mps")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="a plan of your own; else the shipped one that fits")
]
History = Annotated[
    int | None,
    typer.Option(
        "--history", min=1, help="video frames that are shown first; else 8, or the next number that fits"
    ),
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="denoising steps per frame")]
Guidance = Annotated[float, typer.Option("--guidance", help="action guidance s; 1: none")]
Noise = Annotated[
    float, typer.Option("--context-noise", min=0, help="noise level that history is given; 0: clean")
]
Seed = Annotated[int, typer.Option("--seed", min=0)]


def present(folder: Path) -> None:
    if not folder.is_dir():
        raise V2WError(f"read {folder}", "no such folder", "check the path")


def write_text(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise V2WError(f"write {file}", error.strerror or str(error)) from None

"""Claims, measured: exit 1 where one does not hold."""

from pathlib import Path
from typing import Annotated, Any

import typer

from v2w_convert.cli.options import Converted, Json, present


def verify(
    converted: Converted,
    base: Annotated[Path | None, typer.Option("--base", help="what it was converted from")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="a folder for pictures and report.json")
    ] = None,
    json: Json = False,
) -> None:
    """Measure every claim on your own weights. Exit 1 if one does not hold."""
    present(converted)
    if base is not None and not base.is_file():
        present(base)
    from v2w_convert.report import bar, fold, print_json, say, table
    from v2w_convert.verify.run import verify as measure

    with bar("verify") as update:
        found = measure(converted, base, report=report, progress=lambda what: update(description=what))
    result = found.as_json()
    rows = []
    for c in result["claims"]:
        state = "FAILS" if not c["ok"] else "-" if c["measured"] is None or c["allowed"] is None else "holds"
        rows.append((state, c["claim"], _figure(c["measured"]), _figure(c["allowed"])))
    table(str(converted), ["", "claim", "measured", "allowed"], rows)
    for c in result["claims"]:
        if not c["ok"]:
            culprits = ", ".join(fold(c["where"].split(", "))) or "no module could be blamed"
            say(f"FAILS: {c['claim']}: {culprits} ({c['how']})" + (f"\n  {c['mend']}" if c["mend"] else ""))
    if json:
        print_json(result)
    if not result["ok"]:
        raise typer.Exit(1)


def export(
    converted: Converted,
    output: Annotated[Path, typer.Option("-o", "--output", help="the .onnx file to write")],
    height: Annotated[
        int | None, typer.Option("--height", min=1, help="latent height; else the config's")
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=1, help="latent width; else the config's")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="rollouts side by side")] = 1,
    window: Annotated[
        int | None, typer.Option("--window", min=1, help="frames in view, where the plan has none")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="frames of the check against torch")] = 32,
    json: Json = False,
) -> None:
    """One streamed denoising step as an ONNX graph, checked against torch. Exit 1 if they differ."""
    present(converted)
    from v2w_convert.export.target import require_packages, require_target

    require_target(output)
    require_packages()
    from v2w_convert.export.onnx import export as write
    from v2w_convert.report import print_json, say

    result = write(converted, output, b=batch, h=height, w=width, window=window, frames=frames)
    far = result["largest_difference"]
    found = "not a finite number" if far is None else f"{far:.1e}"
    what = f"onnxruntime differs from torch over {result['frames']} frames by {found} (allowed {result['allowed']:.0e})"
    say(f"{output}: {result['bytes']} bytes; {what}" if result["ok"] else f"{output} is not written: {what}")
    if json:
        print_json(result)
    if not result["ok"]:
        raise typer.Exit(1)


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

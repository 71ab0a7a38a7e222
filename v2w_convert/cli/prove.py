"""Claims, measured: exit 1 where one does not hold."""

from pathlib import Path
from typing import Annotated, Any

import typer

from v2w_convert.cli.options import Camera, Converted, Json, present

SHOWN = {"fails": "FAILS", "not measured": "-"}


def verify(
    converted: Converted,
    base: Annotated[Path | None, typer.Option("--base", help="what it was converted from")] = None,
    clips: Annotated[
        Path | None,
        typer.Option("--clips", help="a LeRobot v3 data set: the distance from the base is measured on it"),
    ] = None,
    camera: Camera = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="a folder for a page, pictures, report.json and a summary")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="put the summary into the model card, OUT/README.md")
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option("--memory", min=0, help="GB that may be used; else what the machine has left"),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", min=0, help="minutes that it may take; else any number")
    ] = None,
    json: Json = False,
) -> None:
    """Measure every claim on your own weights. Exit 1 if one does not hold."""
    present(converted)
    if base is not None and not base.is_file():
        present(base)
    from v2w_convert.report import print_json

    result = measure(converted, base, report, card, memory, budget, clips, camera)
    if json:
        print_json(result)
    if not result["ok"]:
        raise typer.Exit(1)


def measure(
    converted: Path,
    base: Path | None,
    report: Path | None = None,
    card: bool = False,
    memory: float | None = None,
    budget: float | None = None,
    clips: Path | None = None,
    camera: str | None = None,
) -> dict[str, Any]:
    """Verify, show every claim, write what is asked for; the report as JSON."""
    from v2w_convert.report import fold_paths, print_line, print_table, progress_bar
    from v2w_convert.surgery.card import CARD, read_card, write_card
    from v2w_convert.surgery.manifest import read_manifest
    from v2w_convert.verification.report.summary import summary
    from v2w_convert.verification.report.wording import state, verdict
    from v2w_convert.verification.run import verify as measured
    from v2w_convert.verification.settings import VerifySettings

    if card:
        read_card(
            converted, read_manifest(converted)
        )  # what cannot be read is refused now, not when all is done
    with progress_bar("verify") as update:
        found = measured(
            converted,
            base,
            VerifySettings(clips=clips, camera=camera, memory=memory, budget=budget),
            report=report,
            progress=lambda event: update(description=f"{event.detail} ({event.done} of {event.total})"),
            say=print_line,
        )
    result = found.as_json()
    claims = result["claims"]
    rows = [
        (
            SHOWN.get(state(c), state(c)),
            c["sentence"],
            _figure(c["measured"]),
            _figure(c["allowed"]),
        )
        for c in claims
    ]
    print_table(str(converted), ["", "claim", "measured", "allowed"], rows)
    for c in claims:
        if not c["ok"]:
            culprits = ", ".join(fold_paths(c["where"].split(", "))) or "no module could be blamed"
            print_line(
                f"FAILS: {c['sentence']}: {culprits} ({c['how']})" + (f"\n  {c['fix']}" if c["fix"] else "")
            )
    print_line(f"{converted}: {verdict(claims)}")
    if left := result["figures"].get("budget", {}).get("unmeasured"):
        print_line(f"not measured, since the budget of {budget:g} minutes was used up: {', '.join(left)}")
    if report is not None:
        print_line(f"{report / 'report.html'}: the same as a page, with pictures")
    if card:
        write_card(converted, read_card(converted, read_manifest(converted)), summary(result))
        print_line(f"{converted / CARD}: has the summary")
    return result


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
    from v2w_convert.onnx_export.target import require_packages, require_target

    require_target(output)
    require_packages()
    from v2w_convert.onnx_export.onnx import export as write
    from v2w_convert.report import print_json, print_line

    result = write(converted, output, b=batch, h=height, w=width, window=window, frames=frames)
    far = result["largest_difference"]
    found = "not a finite number" if far is None else f"{far:.1e}"
    what = f"onnxruntime differs from torch over {result['frames']} frames by {found} (allowed {result['allowed']:.0e})"
    print_line(
        f"{output}: {result['bytes']} bytes; {what}" if result["ok"] else f"{output} is not written: {what}"
    )
    if json:
        print_json(result)
    if not result["ok"]:
        raise typer.Exit(1)


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

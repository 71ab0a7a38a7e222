"""`v2w export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2w_convert import api
from v2w_convert.cli.options import FILES, Converted, Json, output_option, takes_settings
from v2w_convert.errors import V2WError
from v2w_convert.onnx_export.settings import ExportSettings
from v2w_convert.web_export.settings import WebSettings

if TYPE_CHECKING:
    from v2w_convert.onnx_export.result import ExportResult
    from v2w_convert.web_export.result import WebExportResult

Output = Annotated[Path | None, output_option("FILE", "new .onnx file")]
Web = Annotated[
    Path | None,
    typer.Option(
        "--web", metavar="DIR", help="new folder, with a page to play the world on", rich_help_panel=FILES
    ),
]
Start = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="with --web: data set of episodes to start from; default: those whose first frames are kept with the model",
        rich_help_panel=FILES,
    ),
]
Runtime = Annotated[
    Path | None,
    typer.Option(
        "--runtime",
        metavar="PACKAGE",
        help="with --web: npm's package onnxruntime-web, as `npm pack` saves it, or its folder",
        rich_help_panel=FILES,
    ),
]


@takes_settings
def export(
    converted: Converted,
    settings: WebSettings,
    output: Output = None,
    web: Web = None,
    data: Start = None,
    runtime: Runtime = None,
    json: Json = False,
) -> int:
    """Write one streamed denoising step as an ONNX graph, or a page to play the world on. Exit 1 if it differs from torch.

    The graph is compared with torch over a short rollout before the file, or the page's folder, is put in place.
    """
    from v2w_convert.console import print_line, print_result, show_progress

    if (output is None) == (web is None):
        raise V2WError("export", "neither -o nor --web" if web is None else "-o and --web", "one of the two")
    if web is not None:
        with show_progress("export") as progress:
            page = api.export_web(converted, web, data, runtime, settings, progress=progress)
        print_line(_said(str(web), page, f"{page.bytes / 1e6:.1f} MB"))
        if page.written:
            print_line(f"to play: python -m http.server -d {web}, and open http://localhost:8000")
        if json:
            print_result(page)
        return 0 if page.ok else 1
    assert output is not None
    only_web = WebSettings.model_fields.keys() - ExportSettings.model_fields.keys()
    given = [f"--{name.replace('_', '-')}" for name in sorted(only_web & settings.model_fields_set)]
    given += [flag for flag, value in (("--data", data), ("--runtime", runtime)) if value is not None]
    if given:
        raise V2WError("export a graph", f"{', '.join(given)}, which only --web takes", "without")
    own = ExportSettings(**{name: getattr(settings, name) for name in settings.model_fields_set})
    with show_progress("export") as progress:
        result = api.export(converted, output, own, progress=progress)
    print_line(_said(str(output), result, f"{result.bytes} bytes"))
    if json:
        print_result(result)
    return 0 if result.ok else 1


def _said(target: str, result: "ExportResult | WebExportResult", size: str) -> str:
    """What was written, and how far it differs from torch."""
    difference = result.largest_difference
    found = "not a finite number" if difference is None else f"{difference:.1e}"
    outcome = f"onnxruntime differs from torch over {result.frames} frames by {found} (allowed {result.allowed:.0e})"
    return f"{target}: {size}; {outcome}" if result.written else f"{target} is not written: {outcome}"

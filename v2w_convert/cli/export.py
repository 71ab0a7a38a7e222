"""`v2w export`."""

from pathlib import Path
from typing import Annotated

from v2w_convert import api
from v2w_convert.cli.options import Converted, Json, output_option, takes_settings
from v2w_convert.onnx_export.settings import ExportSettings


@takes_settings
def export(
    converted: Converted,
    output: Annotated[Path, output_option("FILE", "new .onnx file")],
    settings: ExportSettings,
    json: Json = False,
) -> int:
    """Write one streamed denoising step as an ONNX graph. Exit 1 if it differs from torch.

    The graph is compared with torch over a short rollout before the file is put in place.
    """
    from v2w_convert.console import print_line, print_result, show_progress

    with show_progress("export") as progress:
        result = api.export(converted, output, settings, progress=progress)
    difference = result.largest_difference
    found = "not a finite number" if difference is None else f"{difference:.1e}"
    outcome = f"onnxruntime differs from torch over {result.frames} frames by {found} (allowed {result.allowed:.0e})"
    if result.written:
        print_line(f"{output}: {result.bytes} bytes; {outcome}")
    else:
        print_line(f"{output} is not written: {outcome}")
    if json:
        print_result(result)
    return 0 if result.ok else 1

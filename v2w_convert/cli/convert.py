"""`v2w convert`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from v2w_convert import api
from v2w_convert.cli.options import Base, Json, output_option, takes_settings
from v2w_convert.surgery.settings import ConvertSettings


@takes_settings
def convert(
    base: Base,
    output: Annotated[Path, output_option("OUT", "folder to write: new or empty")],
    settings: ConvertSettings,
    json: Json = False,
) -> int:
    """Convert a checkpoint into a world model: a new checkpoint folder.

    Run it again to continue a conversion that was interrupted. Exit 1 if --verify finds a claim that fails.
    """
    from v2w_convert.console import print_line, print_result, print_table, show_progress

    with show_progress("convert") as progress:
        result = api.convert(base, output, settings, progress=progress)
    if result.already_converted:
        print_line(f"{output}: already converted")
    else:
        if result.dry_run:
            print_table(f"{base}: what would change", ["tensor", "status"], result.changes.items())
            print_table(
                f"{output}: what would be written",
                ["file", "bytes", "of these copied unchanged"],
                [(file.path, f"{file.bytes:,}", f"{file.copied:,}") for file in result.files],
            )
            print_line(f"{output}: {result.bytes_needed:,} bytes needed, {result.bytes_free:,} free")
        for note in result.notes:
            print_line(f"{base}: {note}")
        verb = "would be " if result.dry_run else ""
        counts = asdict(result.tensors).items()
        print_line(f"{output}: " + ", ".join(f"{count} tensors {verb}{status}" for status, count in counts))
    if result.verify is not None:
        from v2w_convert.cli.verify import show_report

        show_report(result.verify, output, None, card=True)
    if json:
        print_result(result)
    return 0 if result.ok else 1

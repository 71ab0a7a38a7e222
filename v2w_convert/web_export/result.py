"""What `export_web` returns."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class WebExportResult:
    """A world as a folder of static files.

    Attributes:
        ok: The frames of the folder's graphs equal torch's, or they were not compared.
        output: The folder.
        written: The folder was written: `ok`, or the settings keep one that differs.
        frames: Frames that were compared; 0 if the settings ask for no comparison.
        largest_difference: Largest absolute difference of their pixels, which are 0 to 1; None if there was no
            comparison.
        allowed: What it may be.
        window: Latent frames that attention sees, the present one included.
        starts: Episodes that a visitor can start from.
        bytes: Size of all files together. Graphs and WebAssembly are compressed.
        files: Size of each file.
        settings: All settings.
    """

    ok: bool
    output: str
    written: bool
    frames: int
    largest_difference: float | None
    allowed: float
    window: int
    starts: list[int]
    bytes: int
    files: dict[str, int]
    settings: dict[str, Any]

"""Data sets that cannot be read, or only just: what is spoiled in a whole one, by kind."""

from collections.abc import Callable, Mapping
from pathlib import Path

Spoil = Callable[[Path], object]
"""Spoils the data set in a folder, whose parent holds nothing else."""


def every(prefix: str, cases: Mapping[object, Spoil]) -> dict[str, Spoil]:
    """The cases, their names begun with `prefix`."""
    return {f"{prefix} {name!s:.60}": spoil for name, spoil in cases.items()}

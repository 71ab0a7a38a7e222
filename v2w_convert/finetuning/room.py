"""Room on the disk, asked for before something large is written."""

import shutil
from pathlib import Path

from v2w_convert.errors import V2WError


def require_room(folder: Path, size: int, asked: str, try_: str) -> None:
    """Check that files of so many bytes fit on the disk of `folder`, which need not be there yet.

    Raises:
        V2WError: They do not. `asked` says what was asked for, `try_` what to try.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise V2WError(asked, f"it takes {in_words(size)}, and {there} has {in_words(free)} left", try_)


def in_words(size: int) -> str:
    """A number of bytes as people say it."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"

"""What lies in a folder, in order and without hidden files, and lists of names for messages."""

from collections.abc import Iterator
from pathlib import Path


def listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def names_in(folder: Path) -> list[str]:
    """Names, those of folders with a slash."""
    return [path.name + "/" if path.is_dir() else path.name for path in listed(folder)]


def walk(folder: Path) -> Iterator[Path]:
    """Every path below `folder` that is not a folder itself, in order, without the hidden ones."""
    waiting = [folder]  # not by recursion: folders may be nested more deeply than calls
    while waiting:
        path = waiting.pop()
        if path == folder or (path.is_dir() and not path.is_symlink()):
            waiting += reversed(listed(path))
        else:
            yield path


def few(names: list[str]) -> str:
    """The first of them, as a list to print."""
    return ", ".join(f"{name:.200}" for name in first(names)) or "nothing"


def first(faults: list[str], count: int = 8) -> list[str]:
    """The first of them, and how many more there are."""
    return faults[:count] + ([f"and {len(faults) - count} more"] if len(faults) > count else [])

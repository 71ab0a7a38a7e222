"""Links that lead out of a folder: what is read of a folder lies in it."""

import os
from collections.abc import Iterable
from pathlib import Path

from v2w_convert.errors import V2WError


def is_link_out(file: Path, folder: Path) -> bool:
    """Whether `file` resolves to a place outside `folder`. The Hub cache links `snapshots/REVISION` to `blobs`; that is allowed."""
    target, root = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    blobs = [parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots"]
    return not any(target.is_relative_to(home) for home in (root, *blobs))


def refuse_links_out(files: Iterable[Path], folder: Path, asked: str) -> None:
    """Raise V2WError if one of the files is a link to a place outside `folder`."""
    for file in files:
        if is_link_out(file, folder):
            raise V2WError(
                asked, f"{file} is a link to {os.path.realpath(file)}", "copy the file itself there"
            )


def require_plain(folder: Path, asked: str) -> None:
    """Raise V2WError if anything below `folder` is a link to a place outside it, a pipe or a device."""
    for here, folders, files in os.walk(folder):  # which follows no links
        for name in (*folders, *files):
            path = Path(here, name)
            refuse_links_out([path] if path.is_symlink() else [], folder, asked)
            if os.path.lexists(path) and not (path.is_file() or path.is_dir()):
                what = "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
                raise V2WError(asked, f"{path} is {what}", "a folder without it")

"""Files of a data set: regular ones, inside its folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from v2w_convert.errors import V2WError
from v2w_convert.links import is_link_out


def file_in(folder: Path, name: str | Path) -> Path:
    """The regular file `name` in a data set's folder.

    Raises:
        V2WError: It is not there, no regular file (opening a pipe would wait for ever), or a link out of the folder.
    """
    file = folder / name
    asked = f"read {file}"
    if is_link_out(file, folder):
        raise V2WError(asked, f"it is a link to {os.path.realpath(file)}", "copy the file itself there")
    if not file.is_file():
        there = os.path.lexists(file)
        raise V2WError(
            asked, "not a regular file" if there else "no such file", "download or record the data again"
        )
    return file


def files_below(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """All files below these folders of a data set, in the order of their paths.

    Raises:
        V2WError: As `file_in`; a folder is a link out, too.
    """
    found: list[Path] = []
    for name in names:
        for path, folders, files in os.walk(folder / name):
            found += (Path(path, file) for file in files)
            for link in (Path(path, below) for below in folders):
                if is_link_out(link, folder):
                    raise V2WError(
                        f"read {link}", f"it is a link to {os.path.realpath(link)}", "copy it there"
                    )
    yield from (file_in(folder, file.relative_to(folder)) for file in sorted(found))

"""Paths for libraries that take only UTF-8. Names of files are bytes, and need not be text."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """A path by which a library of another language can open the file or folder `path` within the block.

    `path` itself where it is UTF-8, else a link to it in a folder for the purpose.
    """
    if _is_text(path):
        yield path
        return
    with TemporaryDirectory(prefix="v2w-") as folder:
        link = Path(folder) / f"link{path.suffix if _is_text(Path(path.suffix)) else ''}"
        link.symlink_to(path.absolute())
        yield link


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # of a byte that is no part of a character
        return False
    return True

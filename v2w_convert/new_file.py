"""One output file, written whole or not at all: a full disk leaves no stub, and what was there before stays."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from v2w_convert.errors import V2WError

DISK_ERRORS = ("I/O error:", "PytorchStreamWriter failed", "inline_container.cc")  # of safetensors and torch
PARTIAL = ".v2w-*.partial"  # files of processes that were killed
ADVICE = "a writable folder, on a disk with enough space"


@contextmanager
def new_file(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A path to write to, whose file becomes `target` when the block ends without an exception, once it is on the disk.

    It lies hidden beside `target`. On an exception it is removed.

    Args:
        target: The file to write.
        replace: Whether a file that is there is replaced.

    Raises:
        V2WError: The folder cannot be written, the disk is full or fails, or `target` is there by then.
    """
    partial = target.with_name(PARTIAL.replace("*", f"{os.getpid()}-{secrets.token_hex(4)}"))
    try:
        yield partial
        flush_to_disk(partial)
        if replace:
            partial.replace(target)
        else:
            _link(partial, target)
        flush_to_disk(target.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if (found := disk_error(error)) is not None:
            reason = getattr(error, "strerror", None) or found  # without the hidden name
            raise V2WError(f"write {target}", reason, ADVICE) from error
        raise


def write_text(target: Path, text: str, *, replace: bool = False) -> None:
    """Write a text file, whole or not at all.

    Raises:
        V2WError: As `new_file`.
    """
    with new_file(target, replace=replace) as file:
        file.write_text(text, encoding="utf-8")


def disk_error(error: BaseException) -> str | None:
    """What an exception says of a file that could not be written; None if it says something else."""
    if isinstance(error, OSError):
        return str(error)
    text = " ".join(str(error).split())
    return text[:200] if any(word in text for word in DISK_ERRORS) else None


def flush_to_disk(*paths: Path) -> None:
    """Flush files and folders to the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems sync files only.
            if not (path.is_dir() and error.errno == errno.EINVAL):
                raise
        finally:
            os.close(descriptor)


def _link(partial: Path, target: Path) -> None:
    """Give the file its name, which nothing else may have taken."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        partial.rename(target)
    else:
        partial.unlink()

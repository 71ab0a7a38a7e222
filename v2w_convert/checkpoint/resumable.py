"""A staging folder that becomes the output in one rename, and that a killed run leaves for the next run to resume.

Locks by fcntl, so POSIX only."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.output import check_target, flush_to_disk, rename_into_place
from v2w_convert.errors import V2WError

JOURNAL = "journal"
RESULT = "result"


@dataclass(frozen=True)
class StagingFolder:
    """The folder to write into, and what an earlier run has written there.

    Attributes:
        folder: To fill.
        records: Path in the folder -> digest of a file that was finished, and of what it was made of.
    """

    folder: Path
    records: dict[str, tuple[str, list[str]]]
    journal: int

    def record(self, path: str, digest: str, sources: list[str]) -> None:
        """Record that a file is finished, once it is on disk."""
        _append(self.journal, [path, digest, sources])


@contextmanager
def resumable(folder: Path, key: str, source: Path | None = None) -> Iterator[StagingFolder]:
    """A staging folder to fill, which becomes `folder` when the block ends without an exception.

    It lies hidden beside `folder`, as `.NAME.partial`, with a journal that is locked as long as the process lives. One
    rename puts it in place, after everything in it has reached the disk. On any exception it is removed, and `folder`
    is as it was. A SIGKILL leaves it; the next run with the same `key` resumes from there, one with another key
    begins anew.

    Raises:
        V2WError: At once if `folder` is there and not empty, cannot be made, or is or lies in `source`, if
            another process is filling such a stage, or if what has the stage's name is none; later if the
            disk fails or is full.
    """
    asked = f"write {folder}"
    target = Path(os.path.realpath(folder))
    home = _home(target)
    made: list[Path] = []
    journal = None
    try:
        check_target(target, source, asked)
        made = [parent for parent in target.parents if not parent.exists()]
        home.mkdir(parents=True, exist_ok=True)
        journal = _lock(home, asked)
        yield StagingFolder(home / RESULT, _records(home, journal, key), journal)
        for here, _, _ in os.walk(home / RESULT, topdown=False):
            flush_to_disk(Path(here))
        rename_into_place(home / RESULT, target, asked)
    except BaseException as error:
        with suppress(OSError):
            if journal is not None:
                _clear(home, journal)
            else:
                home.rmdir()  # if it is empty, as it is where no journal could be made
        with suppress(OSError):  # a folder that others use by now stays
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError):
            raise V2WError(asked, str(error), "a writable folder, on a disk with enough space") from error
        raise
    try:
        flush_to_disk(target.parent, *(parent.parent for parent in made))
        _clear(home, journal)
    except OSError as error:
        raise V2WError(asked, f"it is complete and in place, but then: {error}", "check the disk") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the staging folder of a run that was killed right after `folder` was put in place."""
    home = _home(Path(os.path.realpath(folder)))
    with suppress(OSError, V2WError):
        if (home / JOURNAL).is_file():
            _clear(home, _lock(home, ""))
        home.rmdir()  # if it is there, and empty


def staged_bytes(folder: Path) -> int:
    """Bytes that a killed run's staging folder occupies; they are reused or freed."""
    result = _home(Path(os.path.realpath(folder))) / RESULT
    files = (Path(here, name) for here, _, names in os.walk(result) for name in names)
    return sum(stat.st_size for file in files if (stat := file.lstat()).st_nlink == 1)


def _home(target: Path) -> Path:
    return target.parent / f".{target.name}.partial"


def _lock(home: Path, asked: str) -> int:
    """The journal, locked. The lock ends with the process, however it ends."""
    file = home / JOURNAL
    if home.is_symlink() or (any(home.iterdir()) and not file.is_file()) or file.is_symlink():
        raise V2WError(
            asked, f"{home} exists and was not written by v2w", "another folder, or move that one away"
        )
    journal = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(journal), os.stat(file)):
            raise FileNotFoundError  # whoever had the lock has finished, and removed the stage
    except OSError as error:
        os.close(journal)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise V2WError(asked, "another run is writing it", "wait for that one") from None
        raise
    return journal


def _records(home: Path, journal: int, key: str) -> dict[str, tuple[str, list[str]]]:
    """What the run with this key has finished. Another run's leftovers are deleted: it would hold the lock if it were alive."""
    first, *lines = os.pread(journal, os.fstat(journal).st_size, 0).splitlines(keepends=True) or [b""]
    if first == _line([key]):
        records, size = {}, len(first)
        with suppress(ValueError, TypeError):  # the last line may be torn
            for line in lines:
                path, digest, sources = json.loads(line)
                records[path] = (digest, sources)
                size += len(line)
        os.ftruncate(journal, size)
        (home / RESULT).mkdir(exist_ok=True)
        return records
    shutil.rmtree(home / RESULT, ignore_errors=True)
    os.ftruncate(journal, 0)
    (home / RESULT).mkdir()
    _append(journal, [key])
    return {}


def _line(entry: list[Any]) -> bytes:
    return json.dumps(entry, allow_nan=False).encode() + b"\n"


def _append(journal: int, entry: list[Any]) -> None:
    line = _line(entry)
    if os.write(journal, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(journal)


def _clear(home: Path, journal: int) -> None:
    """Remove the staging folder, then release the lock."""
    try:
        shutil.rmtree(home / RESULT, ignore_errors=True)
        (home / JOURNAL).unlink()
        with suppress(OSError):  # by now another run's
            home.rmdir()
    finally:
        os.close(journal)

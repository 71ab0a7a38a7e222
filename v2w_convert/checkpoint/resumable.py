"""A folder that appears whole or not at all, and that a run which was killed leaves for the next to finish."""

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

from v2w_convert.checkpoint.output import check_target, put_in_place, sync
from v2w_convert.errors import V2WError

JOURNAL = "journal"
RESULT = "result"


@dataclass(frozen=True)
class Stage:
    """Where to write, and what an earlier run has written there.

    folder   to fill
    records  path in the folder -> SHA-256 of a file that was finished, and of each file that it was made of
    """

    folder: Path
    records: dict[str, tuple[str, list[str]]]
    journal: int

    def record(self, path: str, digest: str, sources: list[str]) -> None:
        """State, once the file itself has reached the disk, that it is finished."""
        _append(self.journal, [path, digest, sources])


@contextmanager
def resumable(folder: Path, key: str, source: Path | None = None) -> Iterator[Stage]:
    """A stage to fill, whose folder becomes `folder` when the block ends without an exception.

    It lies hidden beside `folder`, as `.NAME.partial`, with a journal that is locked as long as the process lives. One
    rename puts it in place, after everything in it has reached the disk. On any exception it is removed, and `folder`
    is as it was. A SIGKILL leaves it; the next run with the same `key` goes on from there, one with another key
    begins anew.

    Raises V2WError at once if `folder` is there and not empty, cannot be made, or is or lies in `source`, if another
    process is filling such a stage, or if what has the stage's name is none; later if the disk fails or is full.
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
        yield Stage(home / RESULT, _records(home, journal, key), journal)
        for here, _, _ in os.walk(home / RESULT, topdown=False):
            sync(Path(here))
        put_in_place(home / RESULT, target, asked)
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
            raise V2WError(asked, str(error), "a folder that can be written, on a disk with room") from error
        raise
    try:
        sync(target.parent, *(parent.parent for parent in made))
        _clear(home, journal)
    except OSError as error:
        raise V2WError(asked, f"it is in place and whole, but then: {error}", "check the disk") from error


def sweep(folder: Path) -> None:
    """Remove the stage that is left if a run was killed right after `folder` was put in place."""
    home = _home(Path(os.path.realpath(folder)))
    with suppress(OSError, V2WError):
        if (home / JOURNAL).is_file():
            _clear(home, _lock(home, ""))
        home.rmdir()  # if it is there, and empty


def staged_bytes(folder: Path) -> int:
    """How much of the disk the stage of a run that was killed takes: it is used again, or freed."""
    result = _home(Path(os.path.realpath(folder))) / RESULT
    files = (Path(here, name) for here, _, names in os.walk(result) for name in names)
    return sum(stat.st_size for file in files if (stat := file.lstat()).st_nlink == 1)


def _home(target: Path) -> Path:
    return target.parent / f".{target.name}.partial"


def _lock(home: Path, asked: str) -> int:
    """The journal, locked. A process that dies lets go of it, however it dies."""
    file = home / JOURNAL
    if home.is_symlink() or (any(home.iterdir()) and not file.is_file()) or file.is_symlink():
        raise V2WError(asked, f"{home} is in the way, and not v2w's", "another folder, or move it")
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
    """What the run with this key has finished. Another's is thrown away: it is dead, or it would hold the lock."""
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
    return json.dumps(entry).encode() + b"\n"


def _append(journal: int, entry: list[Any]) -> None:
    line = _line(entry)
    if os.write(journal, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(journal)


def _clear(home: Path, journal: int) -> None:
    """Remove the stage and let go of it, in this order."""
    try:
        shutil.rmtree(home / RESULT, ignore_errors=True)
        (home / JOURNAL).unlink()
        with suppress(OSError):  # by now another run's
            home.rmdir()
    finally:
        os.close(journal)

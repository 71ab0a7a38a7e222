"""Files that are locked while a process works on what they stand for. A process that ends, however, leaves no lock."""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def held(file: Path, waits: Callable[[], object]) -> Iterator[None]:
    """Hold the lock `file` within the block; it is made for it, and gone afterwards.

    Args:
        file: The file.
        waits: Called if another process holds it, before it is waited for.

    Raises:
        OSError: It cannot be opened, or is no file.
    """
    while True:
        lock = open_lock(file)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_at(lock, file):
            break
        lock.close()  # of a process that was done, and removed it
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.close()


def open_lock(file: Path) -> IO[bytes]:
    """Open a file to be locked. What it holds stays; a link is not followed, a pipe not waited for.

    Raises:
        OSError: It cannot be opened, or is no file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    stream = os.fdopen(os.open(file, flags, 0o666), "r+b", buffering=0)
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(f"{file} is not a regular file")
    return stream


def _is_at(lock: IO[bytes], file: Path) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False

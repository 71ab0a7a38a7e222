"""Files put together from runs of other files' bytes and from new bytes; hashed and flushed while the next are written."""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

from v2w_convert.checkpoint.resumable import Stage
from v2w_convert.errors import V2WError

STEP = 32 * 2**20  # bytes that the kernel is asked to copy at once; hashing follows step by step
BEHIND = 8  # steps that hashing may lag, so that what it reads is still in memory
CHUNK = 2**18  # bytes read at once to be hashed: few, so that they stay in the processor's cache
PLAIN = 8 * 2**20  # bytes read at once where the kernel does not copy
UNSERVED = {
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EBADF,
    errno.ETXTBSY,
}


@dataclass(frozen=True)
class ByteRange:
    """The bytes [start, stop) of `file`."""

    file: Path
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Generated:
    """`size` bytes, which `make` gives when it is their turn: any buffer of single bytes.

    what  tells what they are: in two runs that mean to write the same, it is the same
    """

    size: int
    what: str
    make: Callable[[], Any]


@dataclass(frozen=True)
class OutputFile:
    """A file to write.

    path   within the folder, with `/`
    parts  its bytes, in order
    whole  whether it is a copy of the one file that its only part is of
    """

    path: str
    parts: tuple[ByteRange | Generated, ...]
    whole: bool = False

    @cached_property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @cached_property
    def copied(self) -> int:
        """How many of the bytes come from other files as they are."""
        return sum(part.size for part in self.parts if isinstance(part, ByteRange))

    @cached_property
    def sources(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(part.file for part in self.parts if isinstance(part, ByteRange)))

    def describe(self) -> list[Any]:
        """What the file is made of, as data."""
        runs = [
            [p.file.name, p.start, p.stop] if isinstance(p, ByteRange) else [p.what, p.size]
            for p in self.parts
        ]
        return [self.path, runs]


def text_file(path: str, text: str | bytes) -> OutputFile:
    """A small file whose content is known."""
    content = text.encode() if isinstance(text, str) else text
    return OutputFile(path, (Generated(len(content), hashlib.sha256(content).hexdigest(), lambda: content),))


def copied_file(path: str, file: Path) -> OutputFile:
    return OutputFile(path, (ByteRange(file, 0, file.stat().st_size),), whole=True)


def concatenated(parts: Iterable[ByteRange | Generated]) -> tuple[ByteRange | Generated, ...]:
    """The same bytes in as few parts as can be: runs of one file that follow each other are one."""
    result: list[ByteRange | Generated] = []
    for part in parts:
        last = result[-1] if result else None
        if (
            isinstance(part, ByteRange)
            and isinstance(last, ByteRange)
            and (last.file, last.stop) == (part.file, part.start)
        ):
            result[-1] = ByteRange(part.file, last.start, part.stop)
        elif part.size:
            result.append(part)
    return tuple(result)


@dataclass(frozen=True)
class Hashes:
    """SHA-256 of files written, by path in the folder, and of the files that they were made of.

    linked  paths of the files that are links
    """

    written: dict[str, str]
    read: dict[Path, str]
    linked: tuple[str, ...]


def write_files(
    items: Sequence[OutputFile],
    stage: Stage,
    *,
    link: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Hashes:
    """Write all items into `stage`, each flushed to the disk before it is recorded there.

    What an earlier run finished is kept if it, and all that it was made of, has the hashes that were recorded. In
    memory are one `Made` and one chunk for each thread.

    link      hard-link whole files, where the file system can
    progress  is called with how many more bytes are in place

    Raises OSError, and V2WError if a file has become shorter.
    """
    stopped = Event()
    with (
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(1) as hashing,
        ThreadPoolExecutor(1) as flushing,
    ):
        read: dict[Path, Future[str]] = {}
        written: dict[str, Future[str]] = {}
        linked = []

        def flush(item: OutputFile, descriptor: int, hashed: list[Future[Any]], digest: Any) -> str:
            try:
                for future in hashed:
                    future.result()
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            found: str = digest.hexdigest()
            # A whole copy has its source's hash; the others' sources are hashed by a thread of their own.
            stage.record(
                item.path, found, [found if item.whole else read[file].result() for file in item.sources]
            )
            return found

        try:
            for item in items:
                record = stage.records.get(item.path)
                for file in item.sources:
                    if file not in read and (record or not item.whole):
                        read[file] = reading.submit(_hash, file, stopped)
                file = stage.folder / item.path
                if record and _same(
                    file, item, record, [read[file].result() for file in item.sources], stopped
                ):
                    written[item.path] = hashing.submit(str, record[0])
                    progress(item.size)
                    continue
                if link and item.whole and _link(item.sources[0], file):
                    linked.append(item.path)
                    written[item.path] = read[item.sources[0]] = reading.submit(
                        _hash, item.sources[0], stopped
                    )
                    progress(item.size)
                    continue
                digest, position = hashlib.sha256(), 0
                behind: deque[Future[Any]] = deque()
                descriptor = _create(file)
                try:
                    for count in _write(item.parts, descriptor):
                        behind.append(
                            hashing.submit(_hash_range, descriptor, position, position + count, digest)
                        )
                        position += count
                        if len(behind) > BEHIND:
                            behind.popleft().result()
                        progress(count)
                except BaseException:
                    hashing.submit(os.close, descriptor)
                    raise
                written[item.path] = flushing.submit(flush, item, descriptor, [*behind], digest)
            found = {path: future.result() for path, future in written.items()}
        except BaseException:
            stopped.set()
            raise
        whole = {item.sources[0]: found[item.path] for item in items if item.whole}
        return Hashes(found, whole | {file: future.result() for file, future in read.items()}, tuple(linked))


def write_file(item: OutputFile, folder: Path) -> None:
    """Write one file, flushed to the disk."""
    descriptor = _create(folder / item.path)
    try:
        for _ in _write(item.parts, descriptor):
            pass
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(file: Path) -> int:
    """A descriptor to write and to read. What a killed run left is unlinked, not written into: it may be a link."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _write(parts: Iterable[ByteRange | Generated], target: int) -> Iterator[int]:
    """Write the parts one after the other; yields how many bytes each step added."""
    at = 0
    for part in parts:
        if isinstance(part, ByteRange):
            source = os.open(part.file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                start = part.start
                while start < part.stop:
                    count = _copy(source, start, target, at, part.stop - start)
                    if not count:
                        found = f"it now ends before byte {part.stop}"
                        raise V2WError(f"read {part.file}", found, "leave the files alone meanwhile")
                    start, at = start + count, at + count
                    yield count
            finally:
                os.close(source)
        else:
            data = memoryview(part.make())
            assert data.nbytes == part.size, f"{part.what}: {data.nbytes} bytes, not {part.size}"
            while data:
                count = os.pwrite(target, data, at)
                data, at = data[count:], at + count
                yield count


def _copy(source: int, start: int, target: int, at: int, count: int) -> int:
    """Copy at most `count` bytes; returns how many, 0 at the file's end."""
    if hasattr(os, "copy_file_range"):
        try:
            if copied := os.copy_file_range(source, target, min(count, STEP), start, at):
                return copied
        except OSError as error:
            if error.errno not in UNSERVED:
                raise
    data = os.pread(source, min(count, PLAIN), start)
    return os.pwrite(target, data, at) if data else 0


def _link(source: Path, file: Path) -> bool:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), file)
    except OSError:  # another file system, or one without links
        return False
    return True


def _hash(file: Path, stopped: Event) -> str:
    digest = hashlib.sha256()
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _hash_range(descriptor, 0, os.fstat(descriptor).st_size, digest, stopped)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _hash_range(descriptor: int, start: int, stop: int, digest: Any, stopped: Event | None = None) -> None:
    view = memoryview(bytearray(min(CHUNK, stop - start)))
    while start < stop and not (stopped and stopped.is_set()):
        count = os.preadv(descriptor, [view[: stop - start]], start)
        if not count:
            raise OSError(errno.EIO, "a file has become shorter while it was read")
        digest.update(view[:count])
        start += count


def _same(
    file: Path, item: OutputFile, record: tuple[str, list[str]], read: list[str], stopped: Event
) -> bool:
    """Whether an earlier run's file is what it recorded, made of what is there now."""
    if not file.is_file() or file.stat().st_size != item.size:
        return False
    return record == (_hash(file, stopped), read)

"""Digests of files, with their algorithm's name: BLAKE3 of a file, or of a file tensor by tensor.

    blake3:…            of the whole file, as `b3sum` prints it
    blake3-tensors:…    of a weight file: it is cut where its tensors begin and end, and the pieces' digests, one after the
                        other, are digested once more. So a tensor that is copied into another file is read and digested
                        once for both.
    64 digits alone     SHA-256 of the whole file, as earlier versions recorded it

Where there is no package `blake3` for a machine, `sha256:…` and `sha256-tensors:…` are written in the same way.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.content import read_file
from v2w_convert.errors import V2WError

try:
    import blake3
except ImportError:
    ALGORITHM = "sha256"
else:
    ALGORITHM = "blake3"

PATTERN = r"^((blake3|sha256)(-tensors)?:)?[0-9a-f]{64}$"
CHUNK = 2**18  # bytes read at once: few, so that they stay in the processor's cache
BLOB = re.compile("[0-9a-f]{64}")


def new_digest(algorithm: str = ALGORITHM) -> Any:
    """A digest to `update`.

    Raises:
        V2WError: The package for it is missing.
    """
    if algorithm == "sha256":
        return hashlib.sha256()
    if ALGORITHM != "blake3":
        raise V2WError("compare BLAKE3 digests", "the package blake3 is not installed", "pip install blake3")
    return blake3.blake3()


def named(digest: bytes) -> str:
    """The digest of a whole file, as it is recorded."""
    return f"{ALGORITHM}:{digest.hex()}"


def of_pieces(digests: Iterable[bytes], algorithm: str = ALGORITHM) -> str:
    """The digest of a weight file by those of its pieces, as it is recorded."""
    digest = new_digest(algorithm)
    for piece in digests:
        digest.update(piece)
    return f"{algorithm}-tensors:{digest.hexdigest()}"


def digest_range(descriptor: int, start: int, stop: int, algorithm: str = ALGORITHM) -> bytes:
    """The digest of the bytes [start, stop) of an open file.

    Raises:
        OSError: The file is shorter.
    """
    digest, view = new_digest(algorithm), memoryview(bytearray(min(CHUNK, stop - start)))
    while start < stop:
        count = os.preadv(descriptor, [view[: stop - start]], start)
        if not count:
            raise OSError("a file has become shorter while it was read")
        digest.update(view[:count])
        start += count
    return bytes(digest.digest())


def digest_ranges(file: Path, ranges: Iterable[tuple[int, int]], algorithm: str = ALGORITHM) -> list[bytes]:
    """The digests of some ranges of bytes of a file."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [digest_range(descriptor, start, stop, algorithm) for start, stop in ranges]
    finally:
        os.close(descriptor)


def file_digest(file: Path) -> str:
    """The digest of a whole file, as it is recorded."""
    [digest] = digest_ranges(file, [(0, file.stat().st_size)])
    return named(digest)


def pieces(file: Path) -> list[tuple[int, int]]:
    """Where a weight file is cut: (start, stop) of each piece, in order.

    Raises:
        V2WError: It is no weight file.
    """
    ranges = [part for info in read_file(file).tensors.values() for part in info.ranges]
    cuts = sorted({0, file.stat().st_size, *(at for part in ranges for at in part)})
    return list(zip(cuts, cuts[1:], strict=False))


def is_recorded(file: Path, recorded: str) -> bool:
    """Whether `file` is there and has the recorded digest."""
    name, _, digits = recorded.rpartition(":")
    algorithm = name.removesuffix("-tensors") or "sha256"
    if not file.is_file():
        return False
    if name.endswith("-tensors"):
        try:
            cuts = pieces(file)
        except V2WError:  # no weight file any more
            return False
        return of_pieces(digest_ranges(file, cuts, algorithm), algorithm) == recorded
    [digest] = digest_ranges(file, [(0, file.stat().st_size)], algorithm)
    return digest.hex() == digits


def all_recorded(recorded: Mapping[Path, str]) -> bool:
    """Whether all these files are there and have these digests."""
    if not all(file.is_file() for file in recorded):
        return False
    with ThreadPoolExecutor(2) as threads:
        return all(threads.map(is_recorded, recorded, recorded.values()))


def known_sha256(file: Path) -> str | None:
    """The SHA-256 of a file in the Hub's cache, which keeps large files under it; None elsewhere. Nothing is read."""
    blob = Path(os.path.realpath(file))
    return blob.name if blob.parent.name == "blobs" and BLOB.fullmatch(blob.name) else None

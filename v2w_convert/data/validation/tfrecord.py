"""TFRecord files and the `tf.train.Example` messages in them, without TensorFlow.

A record is its length (8 bytes), the masked CRC-32C of these, the content, and the masked CRC-32C of that; numbers are
little-endian (tensorflow/core/lib/io/record_writer.h). An Example is a message of protocol buffers: names, each with a list
of bytes, of float32 or of int64 (tensorflow/core/example/feature.proto).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.validation.crc32c import crc32c
from v2w_convert.data.validation.memory import require_memory
from v2w_convert.errors import V2WError

MAX_NAMES = 10_000  # in an Example
MAX_FIELDS = 1_000_000  # of a message: entries of a list
TRY = "download or record the data again"
VARINT, EIGHT, SIZED, FOUR = 0, 1, 2, 5  # how a field is written


@dataclass(frozen=True)
class Record:
    """Where a record lies: its content's first byte and length in a file."""

    file: Path
    start: int
    length: int

    def read(self) -> bytes:
        """The content.

        Raises:
            V2WError: It is not what its checksum is of, or there is no memory for it.
        """
        asked = f"read {self.file}"
        require_memory(2 * self.length, asked, "a record")
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            content, check = stream.read(self.length), stream.read(4)
        if len(content) != self.length or _masked(content) != check:
            raise V2WError(asked, f"the record at byte {self.start} is not what its checksum is of", TRY)
        return content


def find_records(file: Path) -> Iterator[Record]:
    """All records of a file, a regular one, by their lengths.

    Raises:
        V2WError: A length is not what its checksum is of, or the file ends within a record.
    """
    size, at = file.stat().st_size, 0
    with file.open("rb") as stream:
        while at < size:
            stream.seek(at)
            head = stream.read(12)
            if len(head) < 12 or _masked(head[:8]) != head[8:]:
                raise V2WError(f"read {file}", f"there is no TFRecord at byte {at}", TRY)
            (length,) = struct.unpack("<Q", head[:8])
            if length > size - at - 16:
                raise V2WError(f"read {file}", f"it ends within the record at byte {at}", TRY)
            yield Record(file, at + 12, length)
            at += length + 16


@dataclass
class Feature:
    """A list in an Example, of one kind.

    Attributes:
        entries: Where it is of bytes, each entry.
        floats: Where it is of float32, its numbers.
        ints: Where it is of int64, its numbers.
    """

    entries: list[memoryview] = field(default_factory=list)
    floats: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    ints: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def numbers(self) -> NDArray[Any]:
        """Its numbers, of whichever kind."""
        return self.floats if len(self.floats) else self.ints


def parse_example(content: bytes) -> dict[str, memoryview]:
    """The lists of an Example by name, not parsed yet.

    Raises:
        ValueError: It is no Example, or has a name twice.
    """
    found: dict[str, memoryview] = {}
    for features in _sized(memoryview(content), 1):
        for entry in _sized(features, 1):
            names, lists = list(_sized(entry, 1)), list(_sized(entry, 2))
            if len(names) != 1 or len(lists) > 1:
                raise ValueError("an entry without a name")
            name = bytes(names[0]).decode("utf-8")
            if name in found or len(found) == MAX_NAMES:
                raise ValueError(f"{name!r:.200} appears twice, or there are more than {MAX_NAMES} names")
            found[name] = lists[0] if lists else memoryview(b"")
    return found


def parse_feature(content: memoryview) -> Feature:
    """A list of an Example.

    Raises:
        ValueError: It is none.
    """
    made = Feature()
    floats, ints = [], []
    for kind, form, value in _fields(content):
        if form != SIZED or kind not in (1, 2, 3):
            raise ValueError("a list of an unknown kind")
        if kind == 1:
            made.entries += _sized(value, 1)
            continue
        loose: list[int] = []
        for number, packing, piece in _fields(value):
            if number != 1:
                continue
            if kind == 2 and packing in (SIZED, FOUR):
                if len(piece) % 4:
                    raise ValueError("a list of float32 that ends within a number")
                floats.append(np.frombuffer(piece, "<f4"))
            elif kind == 3 and packing == SIZED:
                ints.append(_varints(piece))
            elif kind == 3 and packing == VARINT:
                loose.append(piece)
            else:
                raise ValueError("a list whose numbers are of another kind")
        if loose:
            ints.append(np.array(loose, np.uint64).view(np.int64))
    if floats:
        made.floats = np.concatenate(floats).astype(np.float32)
    if ints:
        made.ints = np.concatenate(ints)
    if sum(bool(len(each)) for each in (made.entries, made.floats, made.ints)) > 1:
        raise ValueError("a list of several kinds")
    return made


def _sized(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The fields of a message with the number `wanted`, which have a size; others are passed over."""
    for number, form, value in _fields(message):
        if number == wanted:
            if form != SIZED:
                raise ValueError("no tf.train.Example")
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Number, form and value of each field of a message.

    Raises:
        ValueError: It is none.
    """
    at = count = 0
    while at < len(message):
        if (count := count + 1) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} entries")
        key, at = _varint(message, at)
        number, form = key >> 3, key & 7
        if form == VARINT:
            value: Any
            value, at = _varint(message, at)
        elif form in (SIZED, EIGHT, FOUR):
            size = {EIGHT: 8, FOUR: 4}.get(form, 0)
            if form == SIZED:
                size, at = _varint(message, at)
            if size > len(message) - at:
                raise ValueError("a field that is longer than what it is in")
            value, at = message[at : at + size], at + size
        else:
            raise ValueError("no tf.train.Example")
        if not number:
            raise ValueError("no tf.train.Example")
        yield number, form, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    found = 0
    for shift in range(0, 70, 7):
        if at == len(message):
            break
        byte = message[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found & (2**64 - 1), at
    raise ValueError("a number that does not end")


def _varints(packed: memoryview) -> NDArray[np.int64]:
    """All numbers of seven bits a byte, one after the other."""
    given = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(given < 128)
    if len(given) and given[-1] >= 128:
        raise ValueError("a number that does not end")
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.intp)[: len(ends)]
    lengths = ends - starts + 1
    if len(lengths) and lengths.max() > 10:
        raise ValueError("a number that does not end")
    found = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        has = lengths > place
        found[has] |= (given[starts[has] + place] & np.uint64(127)).astype(np.uint64) << np.uint64(7 * place)
    return found.view(np.int64)


def _masked(content: bytes) -> bytes:
    """The checksum as it is stored."""
    crc = crc32c(content)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")

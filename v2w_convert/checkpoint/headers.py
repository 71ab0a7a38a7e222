"""The header of a safetensors file: which tensors it holds and where their bytes lie.

Format: https://github.com/huggingface/safetensors#format. Read here and not by the library because that
needs no torch, and because the library accepts what could mislead (a key given twice, unprintable names,
800,000 tensors).
"""

import math
import os
import reprlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from v2w_convert.errors import V2WError
from v2w_convert.strict_json import parse_object

# Video models have some 3,000 tensors; a header of these sizes is read in a second and 100 MB.
MAX_HEADER_BYTES = 5_000_000
MAX_TENSORS = 12_000
MAX_NAME_LENGTH = 1000
MAX_RANK = 8
VALUES = 11  # of a tensor of five axes: commas and opening brackets


class Dtype(NamedTuple):
    bits: int
    torch: str | None  # its name in torch; None where torch packs several into one element, or has none


DTYPES = {
    "BOOL": Dtype(8, "bool"),
    "U8": Dtype(8, "uint8"),
    "I8": Dtype(8, "int8"),
    "U16": Dtype(16, "uint16"),
    "I16": Dtype(16, "int16"),
    "U32": Dtype(32, "uint32"),
    "I32": Dtype(32, "int32"),
    "U64": Dtype(64, "uint64"),
    "I64": Dtype(64, "int64"),
    "F4": Dtype(4, None),
    "F6_E2M3": Dtype(6, None),
    "F6_E3M2": Dtype(6, None),
    "F8_E4M3": Dtype(8, "float8_e4m3fn"),
    "F8_E4M3FNUZ": Dtype(8, "float8_e4m3fnuz"),
    "F8_E5M2": Dtype(8, "float8_e5m2"),
    "F8_E5M2FNUZ": Dtype(8, "float8_e5m2fnuz"),
    "F8_E8M0": Dtype(8, "float8_e8m0fnu"),
    "F16": Dtype(16, "float16"),
    "BF16": Dtype(16, "bfloat16"),
    "F32": Dtype(32, "float32"),
    "F64": Dtype(64, "float64"),
    "C64": Dtype(64, "complex64"),
}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies.

    Attributes:
        dtype: As safetensors spells it, a key of DTYPES.
        file: The safetensors file, or the one that torch.save wrote.
        start, stop: Its bytes, counted from the start of the file.
        crc: Their CRC-32, where the file records it.
        rest: More bytes that follow them, where it is put together of pieces: (start, stop) of each.
        crc_range: The bytes whose CRC-32 `crc` is, where it is only a piece of them.
        update: What is added to its values when they are read.
    """

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int
    crc: int | None = None
    rest: tuple[tuple[int, int], ...] = ()
    crc_range: tuple[int, int] | None = None
    update: "LowRank | None" = None

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) of its bytes, piece by piece."""
        return ((self.start, self.stop), *self.rest)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(stop - start for start, stop in self.ranges)


@dataclass(frozen=True)
class LowRank:
    """An update of a matrix, `scale` · up @ down.

    Attributes:
        down: Where A (rank i) lies.
        up: Where B (o rank) lies.
        scale: What their product is multiplied by.
    """

    down: TensorInfo
    up: TensorInfo
    scale: float


def is_tensor_name(name: Any) -> bool:
    """Whether it can be shown and compared: a string, neither empty nor too long, printable and NFC."""
    # NFC only: two spellings of one visible name differ in bytes, and a reader cannot see it.
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME_LENGTH
        and name.isprintable()
        and unicodedata.is_normalized("NFC", name)
    )


def read_header(file: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name, in the order of their bytes.

    Raises:
        V2WError: Naming the file and the key, if anything in the header is malformed or ambiguous, or if the
            tensors do not cover the rest of the file exactly.
    """
    try:
        return _read(file)
    except OSError as error:
        found = error.strerror or str(error)
    except ValueError as error:
        found = str(error)
    raise V2WError(f"read {file}", found, "download or save the file again")


def _read(file: Path) -> dict[str, TensorInfo]:
    if not file.is_file():  # opening a FIFO would wait for ever
        raise ValueError("not a regular file" if file.exists() else "no such file")
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 8:
            raise ValueError(f"{size} bytes, too few for a safetensors file")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes, over the limit of {MAX_HEADER_BYTES}")
        if length > size - 8:
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        text = stream.read(length)
    if not text.startswith(b"{"):
        raise ValueError("the header does not start with {")
    header = parse_object(text, max_values=MAX_TENSORS * VALUES)
    _check_metadata(header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise ValueError(f"{len(header)} tensors, over the limit of {MAX_TENSORS}")

    tensors = [(name, _tensor_info(name, entry, file, 8 + length)) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor[1].start, tensor[1].stop))
    position = 8 + length
    for name, info in tensors:
        if info.start != position:
            raise ValueError(
                f"{name}: starts at byte {info.start}, but what lies before it ends at {position}"
            )
        position = info.stop
    if position != size:
        raise ValueError(f"its tensors end at byte {position}, the file at {size}")
    return dict(tensors)


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__: not an object of strings")


def _tensor_info(name: str, entry: Any, file: Path, data_start: int) -> TensorInfo:
    if not is_tensor_name(name):
        raise ValueError(f"{reprlib.repr(name)}: not a tensor name (empty, too long, unprintable or not NFC)")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name}: unknown dtype {reprlib.repr(dtype)}")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        raise ValueError(f"{name}: shape {reprlib.repr(shape)} is not at most {MAX_RANK} whole numbers >= 0")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name}: data_offsets {reprlib.repr(offsets)} are not two whole numbers >= 0")
    if math.prod(size or 1 for size in shape) >= 2**63:  # strides of an empty tensor overflow, too
        raise ValueError(f"{name}: shape {reprlib.repr(shape)} is too large")
    start, stop = offsets
    bits = math.prod(shape) * DTYPES[dtype].bits
    if bits != 8 * (stop - start):
        raise ValueError(f"{name}: {dtype} {shape} takes {bits} bits, data_offsets give {8 * (stop - start)}")
    return TensorInfo(dtype, tuple(shape), file, data_start + start, data_start + stop)


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)

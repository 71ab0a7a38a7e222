"""Arrays of numbers in .npz files: zip archives of NumPy's format, without pickles."""

import math
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from numpy.lib import format as npy
from numpy.typing import NDArray

from v2w_convert.data.validation.memory import require_memory
from v2w_convert.errors import V2WError, one_line

NUMBERS = "biuf"  # NumPy's kinds: truths, whole numbers, floating point
FAULTS = (
    OSError,
    ValueError,
    BadZipFile,
    EOFError,
    zlib.error,
    RuntimeError,
    NotImplementedError,
    OverflowError,
)


def has_array(file: Path, name: str) -> bool:
    """Whether there is an array of this name; False of a file that cannot be read, too.

    Args as of `read_array`.
    """
    try:
        with ZipFile(file) as archive:
            return f"{name}.npy" in archive.namelist()
    except FAULTS:
        return False


def read_array(file: Path, name: str) -> NDArray[Any]:
    """The array of this name, whose size is known before it is read.

    Args:
        file: A regular file, see `files.file_in`.
        name: The array's name.

    Raises:
        V2WError: There is no such array, it is not of numbers, or larger or smaller than it says.
    """
    asked = f"read {name!r} from {file}"
    try:
        with ZipFile(file) as archive:
            entry = archive.getinfo(f"{name}.npy")
            with archive.open(entry) as stream:
                head = (
                    npy.read_array_header_1_0
                    if npy.read_magic(stream) == (1, 0)
                    else npy.read_array_header_2_0
                )
                shape, _, dtype = head(stream)
                if dtype.kind not in NUMBERS:
                    raise ValueError(f"it is of type {dtype}")
                if (size := math.prod(shape) * dtype.itemsize) != entry.file_size - stream.tell():
                    raise ValueError(f"its shape is {shape}, it has {entry.file_size} bytes")
                require_memory(size, asked, "its numbers")
            with archive.open(entry) as stream:
                found: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    except KeyError:
        raise V2WError(asked, "there is no such array", "save it again") from None
    except FAULTS as error:
        raise V2WError(asked, one_line(error), "save it again") from None
    return found

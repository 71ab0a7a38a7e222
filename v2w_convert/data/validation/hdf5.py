"""HDF5 files: only what lies in the file itself, as plain arrays of a known size.

A link to another file, an array whose numbers lie elsewhere, a filter that would load a library, and types that are no
numbers are refused. The HDF5 library itself parses the file; it is not made for files that somebody spoiled on purpose.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.validation.memory import require_memory
from v2w_convert.errors import V2WError, one_line

NUMBERS = "biuf"
FILTERS = (1, 2, 3, 4, 32000)  # deflate, shuffle, fletcher32, szip, lzf: those that come with h5py
MAX_CHUNK = 2**28  # bytes, unpacked: what is read at once at least
MAX_MEMBERS = 4_000_000
TRY = "download or record the data again"


def require_h5py(asked: str) -> Any:
    """The module h5py.

    Raises:
        V2WError: It is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise V2WError(asked, "h5py is not installed", "pip install 'v2w-convert[hdf5]'") from None
    return h5py


@contextmanager
def open_hdf5(file: Path) -> Iterator[Any]:
    """The root group of a file, opened for reading; what h5py raises in the block becomes a V2WError.

    Args:
        file: A regular file, see `files.file_in`.

    Raises:
        V2WError: It is damaged or no such file, or h5py is not installed.
    """
    asked = f"read {file}"
    h5py = require_h5py(asked)
    try:
        with file.open("rb") as stream, h5py.File(stream, "r") as opened:
            yield opened
    except V2WError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, MemoryError, OverflowError) as error:
        raise V2WError(asked, f"it is damaged or no HDF5 file ({one_line(error)})", TRY) from None


def members(group: Any) -> list[str]:
    """Names in a group; none of an array.

    Raises:
        ValueError: There are too many, or one cannot be shown.
    """
    if not hasattr(group, "keys"):
        return []
    if len(group) > MAX_MEMBERS:
        raise ValueError(f"{len(group)} members in {group.name!r:.200}")
    names = [str(name) for name in group]
    if bad := [name for name in names if not name.isprintable()]:
        raise ValueError(f"a name that cannot be shown: {bad[0]!r:.200}")
    return names


def find(root: Any, path: str) -> Any | None:
    """What lies at a path in the file; None if nothing does.

    Raises:
        ValueError: A part of the path is a link by name, which may lead to another file.
    """
    h5py = require_h5py("read HDF5")
    found = root
    for part in path.split("/"):
        if not isinstance(found, h5py.Group):
            return None
        link = found.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path!r:.200}: {part!r:.200} is a link ({type(link).__name__})")
        found = found[part]
    return found


def require_plain(array: Any, path: str) -> Any:
    """Return an array whose numbers lie in this file, in chunks of a bounded size. Bytes of any length are allowed.

    Raises:
        ValueError: It is anything else.
    """
    h5py = require_h5py("read HDF5")
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{path!r:.200} is {'not there' if array is None else 'no array'}")
    if array.is_virtual or array.external:
        raise ValueError(f"{path!r:.200}: its numbers lie in other files")
    if array.shape is None:
        raise ValueError(f"{path!r:.200} is empty")
    if array.dtype.kind not in NUMBERS and h5py.check_vlen_dtype(array.dtype) != np.uint8:
        raise ValueError(f"{path!r:.200} is of type {array.dtype!s:.100}, not numbers")
    creation = array.id.get_create_plist()
    filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
    if unknown := [number for number in filters if number not in FILTERS]:
        raise ValueError(f"{path!r:.200}: it is packed by a filter that is not known ({unknown[0]})")
    if array.chunks and (size := math.prod(array.chunks) * array.dtype.itemsize) > MAX_CHUNK:
        raise ValueError(f"{path!r:.200}: chunks of {size} bytes")
    return array


def read_numbers(array: Any, path: str, asked: str) -> NDArray[Any]:
    """All numbers of a plain array.

    Raises:
        ValueError: They are no numbers.
        V2WError: They do not fit into memory.
    """
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"{path!r:.200} is of type {array.dtype!s:.100}, not numbers")
    require_memory(array.size * array.dtype.itemsize, asked, f"the numbers of {path!r:.200}")
    found: NDArray[Any] = array[()]
    return found

"""The tensors of a file that `torch.save` wrote: their names, and where their bytes lie.

Such a file is a zip archive of a pickle, which says what there is, and of one uncompressed entry for each storage.
torch's own restricted unpickler (`weights_only`) reads the pickle and makes tensors without data; from then on the
file is bytes at known offsets, like a safetensors file.
"""

import itertools
import math
import reprlib
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_convert.checkpoint.headers import DTYPES, MAX_RANK, MAX_TENSORS, TensorInfo, is_tensor_name
from v2w_convert.checkpoint.opcodes import check_globals, check_tuple_sizes
from v2w_convert.errors import V2WError

if TYPE_CHECKING:
    import torch

ZIP = b"PK\x03\x04"
MAX_PICKLE_BYTES = (
    2_500_000  # of ten thousand tensors; unpickled in Python, where each byte may cost a microsecond
)
MAX_ENTRIES = 2 * MAX_TENSORS
WRAPPERS = (
    "state_dict",
    "module",
    "model",
    "generator",
)  # Lightning's, DeepSpeed's, those of training scripts
AVERAGES = (
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "generator_ema",
)  # of the weights over training
AGAIN = "download the file again"
TRUST = "where you trust it, load it yourself and save its state_dict alone, as safetensors"


@dataclass(frozen=True)
class Pickled:
    """What such a file holds.

    Attributes:
        tensors: Of the state dict, by name, in its order.
        unread: Other tensors of it, each with the reason why it cannot be read.
        aside: Names of what else lies there: an optimizer's state, numbers, callbacks.
    """

    tensors: dict[str, TensorInfo]
    unread: dict[str, str]
    aside: tuple[str, ...]


def read_pickle(file: Path) -> Pickled:
    """The tensors of the state dict in `file`. No tensor's data is read, nothing that the file brings is run.

    Raises:
        V2WError: If the file is torn, compressed, ambiguous (an entry given twice), or asks for anything but
            tensors and plain containers, or if it holds no state dict.
    """
    asked = f"read {file}"
    try:
        entries = _entries(file)
        state, aside = _state_dict(_unpickle(file))
    except OSError as error:
        raise V2WError(asked, error.strerror or str(error)) from None
    except (ValueError, zipfile.BadZipFile, struct.error) as error:
        raise V2WError(asked, str(error), TRUST if "run code" in str(error) else AGAIN) from None
    tensors, unread = {}, {}
    for name, value in state.items():
        if not is_tensor_name(name):
            found = f"{reprlib.repr(name)}: not a tensor name (empty, too long, unprintable or not NFC)"
            raise V2WError(asked, found)
        try:
            tensors[name] = _info(value, entries, file)
        except ValueError as error:
            unread[name] = str(error)
    return Pickled(tensors, unread, tuple(aside))


def _entries(file: Path) -> dict[int, zipfile.ZipInfo]:
    """The entries by where their bytes begin.

    Raises:
        ValueError: Where readers of zips could differ.
    """
    with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
        found = archive.infolist()
        if len(found) > MAX_ENTRIES:
            raise ValueError(f"{len(found)} entries, over the limit of {MAX_ENTRIES}")
        [(name, count)] = Counter(entry.filename for entry in found).most_common(1) or [("", 0)]
        if count > 1:
            raise ValueError(f"the entry {reprlib.repr(name)} is there {count} times")
        entries = {}
        numbers = [int(n) for e in found if (n := e.filename.rpartition("/data/")[2]).isdecimal()]
        if numbers != sorted(numbers):  # torch reckons with the order in which it writes them
            raise ValueError("its storages are not in the order in which torch writes them")
        for entry in found:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise ValueError(f"the entry {reprlib.repr(entry.filename)} is compressed or encrypted")
            stream.seek(entry.header_offset)
            signature, name_length, extra_length = struct.unpack("<4s22x2H", stream.read(30))
            if signature != ZIP:
                raise ValueError(f"the entry {reprlib.repr(entry.filename)} is not where the file says")
            start = entry.header_offset + 30 + name_length + extra_length
            if start + entry.file_size > archive.start_dir:
                raise ValueError(f"the entry {reprlib.repr(entry.filename)} goes beyond the file's entries")
            entries[start] = entry
            if entry.filename.endswith("/data.pkl") and entry.file_size > MAX_PICKLE_BYTES:
                raise ValueError(f"a pickle of {entry.file_size} bytes, over the limit of {MAX_PICKLE_BYTES}")
            if entry.filename.endswith("/data.pkl"):
                pickled = archive.read(entry)  # its checksum is checked, too
                check_globals(pickled)
                check_tuple_sizes(pickled)
            if entry.filename.endswith("/byteorder") and archive.read(entry) != b"little":
                raise ValueError("its numbers are not in little-endian order")
    return entries


def _unpickle(file: Path) -> Any:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode  # under it, torch.load reads no data

    try:
        with file.open("rb") as stream, FakeTensorMode():  # of a path, torch would believe the suffix
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of a file that is not what it seems
        foreign = _foreign(file)
        if foreign:
            raise V2WError(
                f"read {file}",
                f"it asks for more than tensors: {', '.join(foreign)}, which could run code",
                TRUST,
            ) from None
        raise ValueError(" ".join(str(error).split())[:200]) from None


def _foreign(file: Path) -> list[str]:
    """What the pickle asks for beyond what torch takes for harmless."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    except Exception:  # torn as well
        return []
    return [reprlib.repr(name) for name in itertools.islice(names, 5)]


def _state_dict(loaded: Any) -> tuple[Mapping[str, Any], list[str]]:
    """The mapping that holds the model, and the names of entries that are ignored."""
    import torch

    aside: list[str] = []
    average: Mapping[str, Any] = {}
    if isinstance(loaded, Mapping):
        wrapper = next((name for name in WRAPPERS if isinstance(loaded.get(name), Mapping)), None)
        twin = next((name for name in AVERAGES if isinstance(loaded.get(name), Mapping)), None)
        aside = [str(key) for key in loaded if key not in (wrapper, twin)] if wrapper or twin else []
        average = loaded[twin] if twin else {}
        loaded = loaded[wrapper] if wrapper else {} if twin else loaded
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}, not named tensors")
    loaded = {**loaded, **{f"ema.{key}": value for key, value in average.items()}}
    state = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise ValueError(f"no tensors by name; it has {', '.join(map(reprlib.repr, [*loaded][:8]))}")
    if len(state) > MAX_TENSORS:
        raise ValueError(f"{len(state)} tensors, over the limit of {MAX_TENSORS}")
    return state, aside + [str(key) for key in loaded if key not in state]


def _info(tensor: "torch.Tensor", entries: dict[int, zipfile.ZipInfo], file: Path) -> TensorInfo:
    """Where its bytes lie.

    Raises:
        ValueError: If they are not there one after the other.
    """
    import torch

    code = {f"torch.{dtype.torch}": code for code, dtype in DTYPES.items() if dtype.torch}.get(
        str(tensor.dtype)
    )
    if code is None or tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg():
        raise ValueError(f"is a tensor of {tensor.dtype} and {tensor.layout}, which is not served")
    if tensor.dim() > MAX_RANK:
        raise ValueError(f"has more than {MAX_RANK} axes")
    if not tensor.is_contiguous():
        raise ValueError("is stored transposed or expanded; save it again after .contiguous()")
    size = tensor.element_size()
    length, offset = math.prod(tensor.shape) * size, int(tensor.storage_offset()) * size
    # torch leaves here where the storage's bytes begin; they are trusted only where the zip has such an entry.
    storage = tensor.untyped_storage()
    start: int = getattr(storage, "_checkpoint_offset", -1)
    entry = entries.get(start)
    if entry is None or entry.file_size != storage.nbytes() or offset + length > storage.nbytes():
        raise ValueError("has bytes outside the file's entries")
    # The checksum covers the whole entry. torch omits it after `set_crc32_options(False)`.
    crc = entry.CRC if entry.CRC and length == entry.file_size else None
    return TensorInfo(code, tuple(tensor.shape), file, start + offset, start + offset + length, crc)

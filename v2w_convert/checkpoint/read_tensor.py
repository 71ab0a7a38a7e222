"""Read one tensor's values from where a header says that they lie."""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from v2w_convert.checkpoint.headers import DTYPES, TensorInfo
from v2w_convert.errors import V2WError

if TYPE_CHECKING:
    import torch

CHUNK = 8 * 2**20  # bytes read at once where a checksum covers more than the tensor


def read_tensor(
    info: TensorInfo, dtype: "torch.dtype | None" = None, buffer: "torch.Tensor | None" = None
) -> "torch.Tensor":
    """The tensor of shape `info.shape`, in newly allocated memory or in `buffer`.

    Args:
        info: Where it lies, and what is added to it; that is done in float32 or wider, and rounded once.
        dtype: Of a floating tensor; None: as it is stored.
        buffer: (info.size,) uint8, that the stored bytes are read into.

    Raises:
        V2WError: If torch has no such dtype, or if the bytes are no longer there or not what their checksum
            says.
    """
    tensor = _read(info, buffer)
    if dtype is None or not tensor.is_floating_point():
        dtype = tensor.dtype
    if info.update is not None:
        wide = _promoted(dtype)
        down, up = (_read(part).to(wide) for part in (info.update.down, info.update.up))
        tensor = tensor.to(wide).addmm_(up, down, alpha=info.update.scale)
    return tensor.to(dtype)


def _promoted(dtype: "torch.dtype") -> "torch.dtype":
    import torch

    return torch.promote_types(dtype, torch.float32)


def _read(info: TensorInfo, buffer: "torch.Tensor | None" = None) -> "torch.Tensor":
    """The stored values, in their stored dtype."""
    import torch

    name = DTYPES[info.dtype].torch
    if name is None:
        raise V2WError(f"read {info.file}", f"a tensor of dtype {info.dtype}, which torch cannot hold")
    data = torch.empty(info.size, dtype=torch.uint8) if buffer is None else buffer
    view, at = data.numpy().data, 0
    try:
        with info.file.open("rb") as stream:
            for start, stop in info.ranges:
                stream.seek(start)
                if stream.readinto(view[at : at + stop - start]) < stop - start:
                    raise V2WError(
                        f"read {info.file}",
                        f"it now ends before byte {stop}",
                        "do not change the files during the run",
                    )
                at += stop - start
            if info.crc is not None:
                _check(info, view, stream)
    except OSError as error:
        raise V2WError(f"read {info.file}", error.strerror or str(error)) from None
    return data.view(getattr(torch, name)).reshape(info.shape)


def _check(info: TensorInfo, data: memoryview, stream: BinaryIO) -> None:
    """Compare with the checksum, which may cover bytes around the tensor's."""
    start, stop = info.crc_range or (info.start, info.stop)
    if info.crc_range is None:
        found = zlib.crc32(data)
    else:
        stream.seek(start)
        found, left = 0, stop - start
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            found, left = zlib.crc32(chunk, found), left - len(chunk)
    if found != info.crc:
        raise damaged(info.file, start, stop)


def damaged(file: Path, start: int, stop: int) -> V2WError:
    """The error for bytes [start, stop) that do not match their checksum."""
    return V2WError(
        f"read {file}",
        f"bytes {start} to {stop} are damaged: they do not match the file's own checksum",
        "download the file again",
    )

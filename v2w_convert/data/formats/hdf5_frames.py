"""Frames in arrays: colours as they are, or a packed picture for each frame."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.validation.hdf5 import require_plain
from v2w_convert.data.validation.memory import new_frames
from v2w_convert.data.validation.picture_files import picture_size, read_picture
from v2w_convert.data.validation.videos import check_size
from v2w_convert.errors import V2WError

CHANNELS = (1, 3, 4)
MAGIC = (b"\xff\xd8\xff", b"\x89PNG")


def is_pictures(array: Any) -> bool:
    """Whether an array looks like frames: bytes (t, h, w, c) or (t, c, h, w), or packed pictures (t) or (t, bytes)."""
    if array is None or not hasattr(array, "dtype"):
        return False
    try:
        require_plain(array, "")
        if array.dtype.kind == "O":
            return True
        if array.dtype != np.uint8 or not array.shape[0]:
            return False
        if array.ndim == 2:
            return bytes(array[0, :4]).startswith(MAGIC)
        return bool(array.ndim == 4 and (array.shape[3] in CHANNELS or array.shape[1] in CHANNELS))
    except ValueError:
        return False


def is_packed(array: Any) -> bool:
    """Whether each row is a packed picture."""
    return bool(array.dtype.kind == "O" or array.ndim <= 2)


def frame_size(array: Any, path: str, asked: str) -> tuple[int, int]:
    """Height and width of the frames in a plain array, of one frame (h, w, c) or several.

    Raises:
        ValueError: They are no frames.
        V2WError: The first is a packed picture that cannot be read.
    """
    if is_packed(array):
        if not len(array):
            raise ValueError(f"{path!r:.200} is of shape {array.shape}: no frames")
        return picture_size(_bytes(array[0]), asked)
    shape = array.shape[-3:]
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise ValueError(f"{path!r:.200}: {array.dtype!s:.100} of shape {array.shape}, not frames of uint8")
    if shape[2] in CHANNELS:
        height, width = shape[:2]
    elif shape[0] in CHANNELS:
        height, width = shape[1:]
    else:
        raise ValueError(f"{path!r:.200}: frames of shape {shape}, without 1, 3 or 4 colours")
    check_size(height, width)
    return height, width


def read_frames(array: Any, size: tuple[int, int], bgr: bool, asked: str) -> NDArray[np.uint8]:
    """All frames (t, height, width, 3) in RGB of a plain array, which `frame_size` checked.

    Raises:
        V2WError: They do not fit into memory, or a picture is damaged or of another size.
    """
    count = 1 if not is_packed(array) and array.ndim == 3 else len(array)
    made = new_frames((count, *size, 3), asked, "its frames")
    for number in range(count):  # one at a time: chunks are small, and memory is taken once
        if is_packed(array):
            frame = read_picture(_bytes(array[number]), asked)
        else:
            frame = as_rgb(array[()] if array.ndim == 3 else array[number], size)
        if frame.shape[:2] != size:
            found = f"frame {number} is {frame.shape[0]} x {frame.shape[1]}, the first {size[0]} x {size[1]}"
            raise V2WError(asked, found)
        made[number] = frame
    return made[..., ::-1] if bgr else made


def as_rgb(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame (h, w, c) or (c, h, w) of 1, 3 or 4 channels as (h, w, 3); transparency is left out."""
    if frame.shape[:2] != size:
        frame = np.moveaxis(frame, 0, 2)
    return np.broadcast_to(frame, (*size, 3)) if frame.shape[2] == 1 else frame[..., :3]


def _bytes(row: NDArray[np.uint8]) -> bytes:
    return bytes(np.asarray(row, np.uint8))

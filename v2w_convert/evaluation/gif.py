"""An endless GIF of any number of frames, in the memory of a few.

Pillow keeps all frames of a GIF until the last. So it writes a few at a time, and their blocks are joined here. Format:
https://www.w3.org/Graphics/GIF/spec-gif89a.txt.
"""

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TOGETHER = 16  # frames that Pillow writes at once
EXTENSION, IMAGE, END = 0x21, 0x2C, 0x3B  # the first byte of a block
CONTROL = 0xF9  # an extension: how long the image after it is shown
HAS_COLOURS, COLOUR_BITS = (
    0x80,
    0x07,
)  # of the byte that says whether a table of colours follows, and its size
ENDLESS = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"


def write_gif(frames: Iterable[NDArray[np.uint8]], file: BinaryIO, fps: float) -> None:
    """Write frames (h w 3), at least one, of one size."""
    rest = iter(frames)
    started = False
    while some := [Image.fromarray(frame) for frame in islice(rest, TOGETHER)]:
        part = io.BytesIO()
        some[0].save(part, format="GIF", save_all=True, append_images=some[1:], duration=1000 / fps)
        data = part.getvalue()
        if not started:  # the size, without a table of colours for all frames: each image has its own
            file.write(b"GIF89a" + data[6:10] + bytes(3) + ENDLESS)
            started = True
        for block in _images(data):
            file.write(block)
    file.write(bytes([END]))


def _images(gif: bytes) -> Iterator[bytes]:
    """The images of a GIF, each with its own colours, and what says how long they are shown."""
    at, shared, bits = 13, b"", gif[10] & COLOUR_BITS
    if gif[10] & HAS_COLOURS:
        shared = gif[at : at + _table(bits)]
        at += len(shared)
    while gif[at] != END:
        if gif[at] == EXTENSION:
            stop = _data_end(gif, at + 2)
            if gif[at + 1] == CONTROL:
                yield gif[at:stop]
        else:
            assert gif[at] == IMAGE
            flags, data = gif[at + 9], at + 10
            if flags & HAS_COLOURS:
                data += _table(flags & COLOUR_BITS)
                start = gif[at:data]
            else:
                start = gif[at : at + 9] + bytes([flags | HAS_COLOURS | bits]) + shared
            stop = _data_end(gif, data + 1)
            yield start + gif[data:stop]
        at = stop


def _table(bits: int) -> int:
    """Bytes of a table of colours."""
    return 3 << (bits + 1)


def _data_end(gif: bytes, at: int) -> int:
    """Where a row of pieces of data ends, each of which begins with its length; the last has none."""
    while gif[at]:
        at += 1 + gif[at]
    return at + 1

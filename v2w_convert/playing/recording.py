"""What a visitor has seen, as a video."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_convert.evaluation.pictures import write_video

SIDE, MAX_SCALE = 384, 8  # small frames are enlarged up to about this height


def as_mp4(pictures: list[bytes], fps: float) -> bytes:
    """H.264 of the pictures, which the worker has made, in order; small ones enlarged."""
    with tempfile.TemporaryDirectory(prefix="v2w-") as folder:
        file = Path(folder) / "recording.mp4"
        write_video(_frames(pictures), file, fps)
        return file.read_bytes()


def _frames(pictures: list[bytes]) -> Iterator[NDArray[np.uint8]]:
    for picture in pictures:
        frame = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        scale = min(max(SIDE // len(frame), 1), MAX_SCALE)
        yield frame.repeat(scale, 0).repeat(scale, 1)

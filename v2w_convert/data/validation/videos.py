"""Videos, opened as what their names say and in no other way, with bounds on what decoding takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
from numpy.typing import NDArray

from v2w_convert.errors import V2WError, one_line

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
"""Suffix -> the one container that such a file may be."""
MAX_SIDE = 16_384
MAX_PIXELS = 2**25  # of 8K
PADDING = 256  # pixels that codecs may add to each side
TRY = "download or record the data again"


def check_size(height: int, width: int) -> None:
    """Check the size of frames that a description gives.

    Raises:
        ValueError: No video is so large.
    """
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ValueError(f"frames of {height} x {width}, not of 1 to {MAX_PIXELS} pixels")


def decode(
    file: Path, *, fps: float, height: int, width: int, frames: int
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Seconds and frame (height, width, 3) in RGB, one after the other.

    No other file is opened than this one, whatever it says, and no container but that of its suffix.

    Args:
        file: A regular file.
        fps: Frames a second that it is said to have.
        height: Said of its frames.
        width: The same.
        frames: As many as will be asked for, or more.

    Raises:
        V2WError: It is another container, damaged, of another size, without times, or has more frames a second.
    """
    asked = f"decode {file}"
    most = (height + PADDING) * (width + PADDING)
    with _opened(file, asked, most) as container:
        video = container.streams.video[0]
        found = video.codec_context
        if (found.height, found.width) != (height, width):
            raise V2WError(
                asked,
                f"its frames are {found.height} x {found.width}, the data set's {height} x {width}",
                TRY,
            )
        if 0 < video.frames < frames:
            raise V2WError(asked, f"it has {video.frames} frames, {frames} are listed", TRY)
        found.options = {"max_pixels": str(most)}
        last = -1.0
        for number, frame in enumerate(container.decode(video)):
            time = _time(frame, last, number, fps)
            if (frame.height, frame.width) != (height, width):
                raise ValueError(f"frame {number} is {frame.height} x {frame.width}")
            yield time, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            last = time


@dataclass(frozen=True)
class VideoHead:
    """What a video says of itself.

    Attributes:
        height: Of its frames.
        width: Of its frames.
        frames: How many there are.
        fps: Frames a second, on average.
    """

    height: int
    width: int
    frames: int
    fps: float


def read_head(file: Path) -> VideoHead:
    """Size, count and rate of a video's frames, without decoding one. Where the container has no count, packets are counted.

    Raises:
        V2WError: It is another container than its suffix says, damaged, absurdly large, or has no rate.
    """
    asked = f"read {file}"
    with _opened(file, asked, MAX_PIXELS) as container:
        video = container.streams.video[0]
        height, width = video.codec_context.height, video.codec_context.width
        check_size(height, width)
        fps = float(video.average_rate or 0)
        if not 0.01 <= fps <= 1000:
            raise ValueError(f"{fps:g} frames a second")
        frames = video.frames or sum(packet.size > 0 for packet in container.demux(video))
        return VideoHead(height, width, frames, fps)


@contextmanager
def _opened(file: Path, asked: str, pixels: int) -> Iterator[Any]:
    """A container whose first video has a decoder. What goes wrong in the block is a V2WError, too."""
    if file.suffix not in CONTAINERS:
        raise V2WError(asked, f"no container is known by the name {file.suffix!r}", ", ".join(CONTAINERS))
    options = {"protocol_whitelist": "file", "max_pixels": str(pixels), "max_streams": "100"}
    if file.suffix in (".mp4", ".mov"):
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    try:
        with (
            file.open("rb") as stream,
            av.open(
                stream,
                "r",
                format=CONTAINERS[file.suffix],
                options=options,
                metadata_errors="replace",
                io_open=_refuse,
            ) as container,
        ):
            if container.streams.video[0].codec_context is None:
                raise ValueError("no decoder is known for it")
            yield container
    except IndexError:
        raise V2WError(asked, "there is no video in it", TRY) from None
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        found_text = one_line(error)
        raise V2WError(asked, f"it is damaged or not such a video ({found_text})", TRY) from None


def _refuse(*_: Any) -> NoReturn:
    raise ValueError("it refers to another file")


def _time(frame: Any, last: float, number: int, fps: float) -> float:
    """The frame's time in seconds, later than the last one's."""
    if frame.pts is None or frame.time is None:
        raise ValueError(f"frame {number} has no time")
    time = float(frame.time)
    if not last < time < np.inf:
        raise ValueError(f"frame {number} is at {time} s, the one before at {last} s")
    if number > (time + 1) * fps + 1:
        raise ValueError(f"{number} frames in {time:.3f} s, at {fps} a second")
    return time

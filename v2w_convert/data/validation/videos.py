"""Videos, opened as what their names say and in no other way, with bounds on what decoding takes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
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
REORDERED = 64  # frames that may come before earlier ones
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
    file: Path, *, fps: float, height: int, width: int, begin: float = 0.0
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Seconds and frame (height, width, 3) in RGB, one after the other.

    No other file is opened than this one, whatever it says, and no container but that of its suffix.

    Args:
        file: A regular file.
        fps: Frames a second that it is said to have.
        height: Said of its frames.
        width: The same.
        begin: Seconds; frames before it may be left out, those before the last key frame that is no later.

    Raises:
        V2WError: It is another container, damaged, of another size, without times, or has more frames a second.
    """
    if begin > 0:
        with open_video(file, (height, width)) as (container, video):
            if (frames := _frames_from(container, video, begin)) is not None:
                yield from _pictures(frames, fps, height, width)
                return
    with open_video(file, (height, width)) as (container, video):
        yield from _pictures(container.decode(video), fps, height, width)


def _frames_from(container: Any, video: Any, begin: float) -> Iterator[Any] | None:
    """Frames from a key frame on that is no later than `begin`; None where none can be found without decoding all."""
    if video.time_base is None:
        return None
    try:
        container.seek(int(begin / video.time_base), stream=video)
        frames = container.decode(video)
        first = next(frames)
    except (av.FFmpegError, StopIteration, OverflowError):
        return None
    return chain([first], frames) if first.time is not None and first.time <= begin else None


def _pictures(
    frames: Iterator[Any], fps: float, height: int, width: int
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    last = -1.0
    for number, frame in enumerate(frames):
        time = _time(frame, last, number, fps)
        if (frame.height, frame.width) != (height, width):
            raise ValueError(f"frame {number} is {frame.height} x {frame.width}")
        yield time, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        last = time


def frame_times(file: Path, *, fps: float, height: int, width: int, seconds: float) -> NDArray[np.float64]:
    """When its frames are shown, in seconds, in order; none is decoded.

    Args:
        file: A regular file.
        fps: Frames a second that it is said to have.
        height: Said of its frames.
        width: The same.
        seconds: Times up to this one are wanted.

    Raises:
        V2WError: It is another container, damaged, of another size, without times, or has more frames a second.
    """
    found: list[float] = []
    latest = 0.0
    with open_video(file, (height, width)) as (container, video):
        for packet in container.demux(video):
            # The last packet is empty: it flushes decoders. Those to be discarded come before an edit's beginning.
            if packet.size == 0 or packet.is_discard:
                continue
            ticks = packet.pts if packet.pts is not None else packet.dts
            if ticks is None or packet.time_base is None:
                raise ValueError(f"frame {len(found)} has no time")
            time = float(ticks * packet.time_base)
            latest = max(latest, time)
            if len(found) > (latest + 1) * fps + REORDERED:
                raise ValueError(f"{len(found)} frames in {latest:.3f} s, at {fps} a second")
            found.append(time)
            if time > seconds + 1:
                break
    return np.sort(np.array(found, np.float64))


@contextmanager
def open_video(file: Path, size: tuple[int, int] | None) -> Iterator[tuple[Any, Any]]:
    """The container and its video; what goes wrong in the block is a V2WError that names the file.

    Args:
        file: A regular file.
        size: Height and width of its frames; None: any that is not absurd.

    Raises:
        V2WError: It is another container than its suffix says, damaged, or of another size.
    """
    asked = f"decode {file}"
    suffix = file.suffix.lower()  # cameras write .MP4
    if suffix not in CONTAINERS:
        raise V2WError(asked, f"no container is known by the name {file.suffix!r}", ", ".join(CONTAINERS))
    pixels = str(math.prod(side + PADDING for side in size) if size else MAX_PIXELS)
    options = {"protocol_whitelist": "file", "max_pixels": pixels, "max_streams": "100"}
    if suffix in (".mp4", ".mov"):
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    try:
        with (
            file.open("rb") as stream,
            av.open(
                stream,
                "r",
                format=CONTAINERS[suffix],
                options=options,
                metadata_errors="replace",
                io_open=_refuse,
            ) as container,
        ):
            video = container.streams.video[0]
            if (found := video.codec_context) is None:
                raise ValueError("no decoder is known for it")
            if size is not None and (found.height, found.width) != size:
                raise V2WError(
                    asked,
                    f"its frames are {found.height} x {found.width}, the data set's {size[0]} x {size[1]}",
                    TRY,
                )
            found.options = {"max_pixels": pixels}
            yield container, video
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

"""What a video says of itself, where no description of a data set does: size, count and rate of its frames."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import av

from v2w_convert.data.validation.videos import CONTAINERS, MAX_PIXELS, TRY, check_size
from v2w_convert.errors import V2WError, one_line


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
    """Size, count and rate of a video's frames, without decoding them. Where the container has no count, packets are counted.

    Raises:
        V2WError: It is another container than its suffix says, damaged, absurdly large, or has no rate.
    """
    asked = f"read {file}"
    kind = CONTAINERS[file.suffix]
    options = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS), "max_streams": "100"}
    if kind in ("mp4", "mov"):
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    try:
        with (
            file.open("rb") as stream,
            av.open(
                stream, "r", format=kind, options=options, metadata_errors="replace", io_open=_refuse
            ) as container,
        ):
            video = container.streams.video[0]
            if video.codec_context is None:
                raise ValueError("no decoder is known for it")
            height, width = video.codec_context.height, video.codec_context.width
            check_size(height, width)
            fps = float(video.average_rate or 0)
            if not 0.01 <= fps <= 1000:
                raise ValueError(f"{fps:g} frames a second")
            frames = video.frames or sum(packet.size > 0 for packet in container.demux(video))
            return VideoHead(height, width, frames, fps)
    except IndexError:
        raise V2WError(asked, "there is no video in it", TRY) from None
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise V2WError(asked, f"it is damaged or not such a video ({one_line(error)})", TRY) from None


def _refuse(*_: Any) -> NoReturn:
    raise ValueError("it refers to another file")

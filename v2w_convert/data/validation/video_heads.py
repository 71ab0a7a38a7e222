"""What a video says of itself, where no description of a data set does: size, count and rate of its frames."""

from dataclasses import dataclass
from pathlib import Path

from v2w_convert.data.validation.videos import check_size, open_video


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
    with open_video(file, None) as (container, video):
        height, width = video.codec_context.height, video.codec_context.width
        check_size(height, width)
        fps = float(video.average_rate or 0)
        if not 0.01 <= fps <= 1000:
            raise ValueError(f"{fps:g} frames a second")
        frames = video.frames or sum(packet.size > 0 for packet in container.demux(video))
        return VideoHead(height, width, frames, fps)

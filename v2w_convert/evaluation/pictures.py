"""Frames as files: contact sheets, captions, PNG, MP4, GIF.

t frames of height h and width w, always uint8 RGB with channels last.
"""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.gif import write_gif
from v2w_convert.new_file import new_file

Frames = NDArray[np.uint8]
WHITE = 255


def contact_sheet(rows: list[Frames], scale: int, gap: int) -> Frames:
    """One picture (h w 3) with each clip as a row of frames.

    Args:
        rows: Clips (t h w 3). Shorter rows end in white.
        scale: How often each pixel is repeated in either direction.
        gap: White pixels between frames and between rows.
    """
    strips = [_strip(frames.repeat(scale, 1).repeat(scale, 2), gap) for frames in rows]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, gap), (0, width - s.shape[1]), (0, 0)), constant_values=WHITE) for s in strips]
    sheet = np.concatenate(padded)
    return sheet[: len(sheet) - gap]


def captioned(frames: Frames, text: str) -> Frames:
    """Frames (t h w 3) under a white strip with `text` in black: (t h+strip w 3)."""
    strip = caption(text, frames.shape[2])
    return np.concatenate([np.broadcast_to(strip, (len(frames), *strip.shape)), frames], 1)


def caption(text: str, width: int) -> Frames:
    """A white strip (h width 3) with `text` in black.

    Text is wrapped between words; a single word wider than the strip is cut off. Captions of equally many lines are
    of equal height.
    """
    font = ImageFont.load_default()
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    strip = Image.new("RGB", (width, _text_height(len(lines), font)), "white")
    ImageDraw.Draw(strip).multiline_text((1, 0), "\n".join(lines), fill="black", font=font)
    return np.asarray(strip)


def write_png(picture: Frames, path: Path) -> None:
    """Write `picture` (h w 3) without loss, whole or not at all.

    Raises:
        V2WError: The disk is full, or `path` is there.
    """
    with new_file(path) as file, file.open("wb") as stream:
        Image.fromarray(picture).save(stream, format="PNG")


def write_video(frames: Iterable[Frames], path: Path, fps: float) -> None:
    """Write frames as .mp4 (H.264) or .gif (endless), one after the other, as they come; whole or not at all.

    MP4: odd heights and widths, which H.264's halved colour planes cannot hold, grow by a copy of the last
    line. GIF: holds 256 colours a frame, counts time in 1/100 s, and may keep equal neighbours as one longer
    frame.

    Args:
        frames: (h w 3) each.
        path: The file to write.
        fps: Frames per second.

    Raises:
        V2WError: The suffix is another one, there is no frame, the disk is full, or `path` is there.
    """
    writers = {".mp4": _write_mp4, ".gif": write_gif}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise V2WError(f"write a video to {path}", f"suffix {path.suffix!r}", " or ".join(writers))
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise V2WError(f"write a video to {path}", "no frame")
    with new_file(path) as file, file.open("wb") as stream:
        writer(chain([first], rest), stream, fps)


def _strip(frames: Frames, gap: int) -> Frames:
    """A row (h w 3) of `frames` (t h w 3)."""
    t, h, w, _ = frames.shape
    spaced = np.pad(frames, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=WHITE)
    return spaced.swapaxes(0, 1).reshape(h, t * (w + gap), 3)[:, : t * (w + gap) - gap]


def _text_height(lines: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    tallest = "\n".join(["Åg"] * lines)
    return int(ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), tallest, font)[3]) + 2


def _write_mp4(frames: Iterable[Frames], file: BinaryIO, fps: float) -> None:
    with av.open(file, "w", format="mp4") as video:
        stream: Any = None
        for frame in frames:
            h, w, _ = frame.shape
            frame = np.pad(frame, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = video.add_stream("libx264", rate=rate, options={"crf": "18"})
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())

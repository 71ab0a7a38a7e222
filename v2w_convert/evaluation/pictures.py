"""Frames as files: contact sheets, captions, PNG, MP4, GIF.

t frames of height h and width w, always uint8 RGB with channels last.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from v2w_convert.errors import V2WError

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
    """Frames (t h w 3) under a white strip with `text` in black: (t h+strip w 3).

    Text is wrapped between words; a single word wider than the frames is cut off. Captions of equally
    many lines have strips of equal height.
    """
    t, _, width, _ = frames.shape
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
    above = np.broadcast_to(np.asarray(strip), (t, strip.height, width, 3))
    return np.concatenate([above, frames], 1)


def write_png(picture: Frames, path: Path) -> None:
    """Write `picture` (h w 3) without loss."""
    Image.fromarray(picture).save(path, format="PNG")


def write_video(frames: Frames, path: Path, fps: float) -> None:
    """Write frames (t h w 3) as .mp4 (H.264) or .gif (endless).

    MP4: odd heights and widths, which H.264's halved colour planes cannot hold, grow by a copy of the last
    line. GIF: holds 256 colours a frame, counts time in 1/100 s, and keeps equal neighbours as one longer
    frame.

    Args:
        frames: The frames.
        path: The file to write.
        fps: Frames per second.

    Raises:
        V2WError: The suffix is another one, or there is no frame.
    Raises V2WError, before anything is written, for another suffix or if there is no frame.
    """
    writers = {".mp4": _write_mp4, ".gif": _write_gif}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise V2WError(f"write a video to {path}", f"suffix {path.suffix!r}", " or ".join(writers))
    if not len(frames):
        raise V2WError(f"write a video to {path}", "no frame")
    writer(frames, path, fps)


def _strip(frames: Frames, gap: int) -> Frames:
    """A row (h w 3) of `frames` (t h w 3)."""
    t, h, w, _ = frames.shape
    spaced = np.pad(frames, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=WHITE)
    return spaced.swapaxes(0, 1).reshape(h, t * (w + gap), 3)[:, : t * (w + gap) - gap]


def _text_height(lines: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    tallest = "\n".join(["Åg"] * lines)
    return int(ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), tallest, font)[3]) + 2


def _write_mp4(frames: Frames, path: Path, fps: float) -> None:
    _, h, w, _ = frames.shape
    frames = np.pad(frames, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w") as video:
        stream = video.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"}
        )
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())


def _write_gif(frames: Frames, path: Path, fps: float) -> None:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=1000 / fps, loop=0)

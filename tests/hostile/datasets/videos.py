"""Videos: not videos, of other containers, and of other frames than the description says."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.data.coloured import episodes
from tests.hostile.datasets import Spoil
from tests.hostile.datasets.whole import FPS, VIDEO, content


def frames(height: int = 16, width: int = 16, count: int = 16) -> Iterator[np.ndarray]:
    """Those of the whole data set, or as many grey ones of another size."""
    own = np.concatenate([episode.frames for episode in episodes()])
    for number in range(count):
        yield own[number % 16] if (height, width) == (16, 16) else np.full((height, width, 3), 99, np.uint8)


def encoded(
    format_: str,
    codec: str = "libx264",
    *,
    fps: int = FPS,
    options: dict[str, str] | None = None,
    **size: int,
) -> bytes:
    """A video file's bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format_) as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options or {})
        shown = list(frames(**size))
        stream.height, stream.width = shown[0].shape[:2] if shown else (16, 16)
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for frame in shown:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def replaced(format_: str, *args: Any, **options: Any) -> Spoil:
    """The video is this one."""
    return lambda folder: (folder / VIDEO).write_bytes(encoded(format_, *args, **options))


def sound(folder: Path) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (folder / VIDEO).write_bytes(buffer.getvalue())


def script(text: str) -> Spoil:
    """The video is a text that names another file, the real one, which lies beside it or outside."""

    def spoil(folder: Path) -> None:
        video = folder / VIDEO
        other = folder.parent / "elsewhere.mp4" if "{outside}" in text else video.with_name("other.mp4")
        video.replace(other)
        video.write_text(text.replace("{outside}", str(other)))

    return spoil


def picture(kind: str) -> Spoil:
    def spoil(folder: Path) -> None:
        Image.fromarray(next(frames())).save(folder / VIDEO, kind)

    return spoil


def rewritten(box: bytes, change: bytes, at: int = 0) -> Spoil:
    """The bytes `at` so many after the name of an mp4's box."""

    def spoil(whole: bytes) -> bytes:
        place = whole.index(box) + 4 + at
        return whole[:place] + change + whole[place + len(change) :]

    return content(VIDEO, spoil)


def elsewhere(folder: Path) -> None:
    """An mp4 whose samples lie in another file (a data reference)."""
    whole = (folder / VIDEO).read_bytes()
    (folder.parent / "elsewhere").write_bytes(whole)
    place = whole.index(b"url ") + 4
    (folder / VIDEO).write_bytes(whole[:place] + bytes(4) + whole[place + 4 :])


def zeroed(share: float) -> Spoil:
    """From here on for a fifth of the file, zeros."""

    def spoil(whole: bytes) -> bytes:
        start, size = int(len(whole) * share), len(whole) // 5
        return whole[:start] + bytes(size) + whole[start + size :]

    return content(VIDEO, spoil)


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
CASES: dict[str, Spoil] = {
    "video is empty": content(VIDEO, lambda _: b""),
    "video is text": content(VIDEO, lambda _: b"no video"),
    "video is zeros": content(VIDEO, lambda whole: bytes(len(whole))),
    "video is a page of an error": content(VIDEO, lambda _: b"<!DOCTYPE html><html>404</html>"),
    "video is a pointer of Git LFS": content(
        VIDEO, lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    ),
    **{f"video has only {share} of its bytes": content(VIDEO, lambda w, share=share: w[: int(len(w) * share)])
       for share in (0.01, 0.25, 0.5, 0.9)},
    **{f"video has zeros at {share}": zeroed(share) for share in (0.0, 0.7, 0.8)},
    "video is a concat script": script("ffconcat version 1.0\nfile other.mp4\n"),
    "video is a concat script that leads outside": script("ffconcat version 1.0\nfile '{outside}'\n"),
    "video is a playlist": script(HLS.format("other.mp4")),
    "video is a playlist that leads outside": script(HLS.format("file://{outside}")),
    "video is a manifest": script(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        "<Representation><BaseURL>other.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "video is a session": script("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
    "video is subtitles": content(VIDEO, lambda _: b"WEBVTT\n\n00:00.000 --> 00:01.000\nx\n"),
    "video is Matroska": replaced("matroska"),
    "video is AVI": replaced("avi"),
    "video is MPEG-TS": replaced("mpegts"),
    "video is a GIF": replaced("gif", "gif"),
    "video is raw H.264": replaced("h264"),
    "video is a PNG": picture("PNG"),
    "video is a BMP": picture("BMP"),
    "video is a JPEG": picture("JPEG"),
    "video has no picture, only sound": sound,
    "video is larger": replaced("mp4", height=32, width=32),
    "video is wider": replaced("mp4", height=16, width=32),
    "video is smaller": replaced("mp4", height=8, width=16),
    "video has no frame": replaced("mp4", count=0),
    "video has one frame": replaced("mp4", count=1),
    "video is faster": replaced("mp4", fps=18),
    "video is slower": replaced("mp4", fps=4),
    "video has ticks of no length": rewritten(b"mdhd", bytes(4), 12),
    "video has frames of no length": rewritten(b"stts", bytes(4), 12),
    "video has samples past its end": rewritten(b"stco", struct.pack(">I", 2**31), 8),
    "video has samples of 2 GB": rewritten(b"stsz", struct.pack(">I", 2**31 - 1), 4),
    "video has no samples": rewritten(b"stsz", bytes(4), 8),
    "video is of an unknown codec": content(VIDEO, lambda whole: whole.replace(b"avc1", b"zzzz")),
}  # fmt: skip
"""All are to be refused."""
HARMLESS: dict[str, Spoil] = {
    "video's samples lie elsewhere": elsewhere,
    "video says that it is huge": rewritten(b"avc1", struct.pack(">HH", 65535, 65535), 24),
    "video says that it is 0 x 0": rewritten(b"avc1", bytes(4), 24),
    "video has two billion frames": rewritten(b"stts", struct.pack(">I", 2**31 - 1), 8),
    "video lacks its last byte": content(VIDEO, lambda whole: whole[:-1]),
}
"""Are to be refused, or read as the whole data set: what is spoiled is of no use to a reader."""

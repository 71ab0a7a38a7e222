from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.pictures import captioned, contact_sheet, write_png, write_video


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)  # never quite white


def levels(t: int, h: int, w: int) -> np.ndarray:
    """t evenly coloured frames (t h w 3), each brighter than the last."""
    return np.broadcast_to(np.linspace(20, 220, t).astype(np.uint8)[:, None, None, None], (t, h, w, 3))


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def test_contact_sheet_places_every_pixel() -> None:
    rows = [noise(3, 4, 5, 3), noise(2, 6, 5, 3)]
    scale, gap = 2, 3
    sheet = contact_sheet(rows, scale, gap)
    expected = np.full((4 * 2 + 3 + 6 * 2, 3 * 5 * 2 + 2 * 3, 3), 255, np.uint8)
    for top, clip in ((0, rows[0]), (4 * 2 + 3, rows[1])):
        for number, frame in enumerate(clip):
            for y in range(frame.shape[0] * scale):
                for x in range(frame.shape[1] * scale):
                    expected[top + y, number * 13 + x] = frame[y // scale, x // scale]
    assert np.array_equal(sheet, expected)


def test_contact_sheet_without_gaps() -> None:
    clip = noise(2, 4, 5, 3)
    assert np.array_equal(contact_sheet([clip, clip], 1, 0), np.tile(np.concatenate([*clip], 1), (2, 1, 1)))


def test_png_keeps_every_pixel(tmp_path: Path) -> None:
    picture = noise(7, 9, 3)
    write_png(picture, tmp_path / "picture.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "picture.png")), picture)


@pytest.mark.parametrize(("h", "w"), [(64, 64), (33, 47)])
def test_mp4_keeps_frames_order_rate_and_size(tmp_path: Path, h: int, w: int) -> None:
    """Even colours come back within 3 of 255: 8-bit conversion to yuv and back."""
    frames = levels(6, h, w)
    write_video(frames, tmp_path / "clip.mp4", fps=9)
    read = decoded(tmp_path / "clip.mp4")
    assert read.shape == (6, h + h % 2, w + w % 2, 3)
    assert np.abs(read.astype(int) - frames[:, :1, :1].astype(int)).max() <= 3
    with av.open(str(tmp_path / "clip.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 9)


def test_mp4_keeps_fine_detail(tmp_path: Path) -> None:
    """Grey noise, the hardest picture: a mean error below 4 of 255 (ordinary settings give about 6)."""
    frames = noise(4, 32, 32, 1).repeat(3, -1)
    write_video(frames, tmp_path / "clip.mp4", fps=9)
    error = np.abs(decoded(tmp_path / "clip.mp4").astype(int) - frames).mean()
    assert error < 4


def test_gif_keeps_frames_order_and_rate(tmp_path: Path) -> None:
    frames = levels(5, 6, 7)
    write_video(frames, tmp_path / "clip.GIF", fps=10)
    with Image.open(tmp_path / "clip.GIF") as gif:
        assert gif.info["loop"] == 0
        read, durations = [], []
        for frame in ImageSequence.Iterator(gif):
            read.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info["duration"])
    assert np.array_equal(np.stack(read), frames)  # one colour a frame: the palette loses nothing
    assert durations == [100] * 5


def test_an_unknown_suffix_or_no_frame_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(V2WError, match=r"suffix '.webm' \(try: .mp4 or .gif\)"):
        write_video(levels(2, 4, 4), tmp_path / "clip.webm", fps=9)
    with pytest.raises(V2WError, match="no frame"):
        write_video(levels(2, 4, 4)[:0], tmp_path / "clip.mp4", fps=9)
    assert not list(tmp_path.iterdir())


def test_captioned_frames_lie_unchanged_below_the_strip() -> None:
    frames = noise(3, 16, 64, 3)
    with_text = captioned(frames, "truth")
    strip = with_text[:, :-16]
    assert with_text.shape[0::2] == (3, 64)
    assert np.array_equal(with_text[:, -16:], frames)
    assert strip.min() < 64  # there is ink
    assert (strip == strip[0]).all()


def test_captions_of_one_line_are_equally_high() -> None:
    frames = noise(1, 16, 64, 3)
    strips = [captioned(frames, text)[0, :-16] for text in ("", "ace", "Type", "gypsy")]
    assert len({strip.shape for strip in strips}) == 1
    assert all((strip[-1] == 255).all() for strip in strips)  # no letter is cut off below


def test_a_long_caption_is_wrapped_not_lost() -> None:
    frames = noise(1, 16, 64, 3)
    one, two = captioned(frames, "turn left"), captioned(frames, "turn left turn left")
    strip = two[0, : two.shape[1] - 16]
    assert two.shape[1] > one.shape[1]
    ink = (255 - strip[..., 0].astype(int)).sum()
    assert ink == 2 * (255 - one[0, : one.shape[1] - 16, :, 0].astype(int)).sum()


def test_a_long_gif_is_written_as_its_frames_come(tmp_path: Path) -> None:
    """Over two of the pieces that Pillow writes; every frame as Pillow alone has it."""
    frames = np.random.default_rng(0).integers(0, 256, (37, 9, 7, 3), dtype=np.uint8)
    frames[20] = frames[19]
    given = 0

    def come() -> Iterator[np.ndarray]:
        nonlocal given
        for frame in frames:
            given += 1
            yield frame

    write_video(come(), tmp_path / "a.gif", fps=10)
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(tmp_path / "b.gif", save_all=True, append_images=rest, duration=100, loop=0)
    with Image.open(tmp_path / "a.gif") as ours, Image.open(tmp_path / "b.gif") as theirs:
        assert ours.n_frames == theirs.n_frames == 36  # one of two equal neighbours is shown for longer
        assert ours.info["loop"] == 0
        for number in range(36):
            ours.seek(number)
            theirs.seek(number)
            assert ours.info["duration"] == theirs.info["duration"] == (200 if number == 19 else 100)
            assert np.array_equal(ours.convert("RGB"), theirs.convert("RGB"))

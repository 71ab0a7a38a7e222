"""A video is the container that its suffix names, and opens nothing else."""

from pathlib import Path

import pytest

from tests.hostile.datasets.videos import HLS, encoded
from v2w_convert.data.validation.videos import CONTAINERS, decode, frame_times
from v2w_convert.errors import V2WError

CODECS = {".avi": "mpeg4", ".webm": "libvpx-vp9"}


def read(file: Path) -> int:
    """How many frames it has: those that are decoded are those whose times are read without decoding."""
    times = [time for time, _ in decode(file, fps=9, height=16, width=16)]
    assert frame_times(file, fps=9, height=16, width=16, seconds=9).tolist() == times
    return len(times)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_is_read_by_its_own_name_alone(suffix: str, tmp_path: Path) -> None:
    data = encoded(CONTAINERS[suffix], CODECS.get(suffix, "libx264"))
    (tmp_path / "a").with_suffix(suffix).write_bytes(data)
    assert read((tmp_path / "a").with_suffix(suffix)) == 16
    family = {".mp4", ".mov"} if suffix in (".mp4", ".mov") else {".mkv", ".webm"} if suffix in (".mkv", ".webm") else {suffix}  # fmt: skip
    for other in CONTAINERS.keys() - family:
        wrong = (tmp_path / "wrong").with_suffix(other)
        wrong.write_bytes(data)
        with pytest.raises(V2WError, match="damaged or not such a video"):
            read(wrong)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("text", [HLS.format("other.mp4"), "ffconcat version 1.0\nfile other.mp4\n"])
def test_no_other_file_is_opened(suffix: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(encoded("mp4"))
    (tmp_path / "a").with_suffix(suffix).write_text(text)
    with pytest.raises(V2WError, match="damaged or not such a video"):
        read((tmp_path / "a").with_suffix(suffix))


def test_what_is_said_of_it(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(encoded("mp4"))
    with pytest.raises(V2WError, match="its frames are 16 x 16, the data set's 16 x 32"):
        next(decode(file, fps=9, height=16, width=32))
    with pytest.raises(V2WError, match="frames in .* s, at 1 a second"):
        list(decode(file, fps=1, height=16, width=16))
    with pytest.raises(V2WError, match=r"no container is known by the name '\.m3u8'"):
        read(file.rename(tmp_path / "a.m3u8"))


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_decoding_begins_at_a_key_frame_before_a_time(suffix: str, tmp_path: Path) -> None:
    file = (tmp_path / "a").with_suffix(suffix)
    file.write_bytes(encoded(CONTAINERS[suffix], CODECS.get(suffix, "libx264"), options={"g": "4"}))
    whole = list(decode(file, fps=9, height=16, width=16))
    assert len(whole) == 16
    for number, (begin, _) in enumerate(whole):
        found = list(decode(file, fps=9, height=16, width=16, begin=begin))
        assert found[0][0] <= begin
        assert 16 - number <= len(found) < 16 - number + 4  # not those before the key frame
        for (time, frame), (same_time, same) in zip(found, whole[-len(found) :], strict=True):
            assert time == same_time and (frame == same).all()


def test_without_an_index_all_is_decoded(tmp_path: Path) -> None:
    file = tmp_path / "a.avi"
    data = encoded("avi", "mpeg4", options={"g": "4"})
    file.write_bytes(data[: data.index(b"idx1")])
    for begin in (1.5, 1e300):
        assert len(list(decode(file, fps=9, height=16, width=16, begin=begin))) == 16

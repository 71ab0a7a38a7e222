import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from v2w_convert.data import lerobot
from v2w_convert.data.episode import Episode
from v2w_convert.errors import V2WError


def episodes() -> list[Episode]:
    """Three clips of different lengths in which every frame has a colour of its own."""
    made, colour = [], 10
    for t in (5, 9, 2):
        frames = np.stack([np.full((16, 16, 3), colour + 15 * i, np.uint8) for i in range(t)])
        colour += 7
        made.append(Episode(frames, np.arange(2 * t, dtype=np.float32).reshape(t, 2) + colour))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lerobot.write(episodes(), tmp_path / "set", fps=9, action_names=["x", "y"], task="test", robot="none")
    return tmp_path / "set"


def test_what_is_written_is_read(folder: Path) -> None:
    found = list(lerobot.read(folder))
    assert [len(e) for e in found] == [5, 9, 2]
    for before, after in zip(episodes(), found, strict=True):
        assert np.array_equal(before.actions, after.actions)
        # Lossy, but flat colours 15 apart cannot be taken for one another.
        assert np.abs(before.frames.astype(int) - after.frames).max() <= 4


def test_an_arriving_action_is_the_one_taken_before() -> None:
    episode = episodes()[0]
    assert np.array_equal(episode.arriving_actions[1:], episode.actions[:-1])
    assert not episode.arriving_actions[0].any()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"total_episodes": 0}, "no episode"),
        ({"codebase_version": "v2.1"}, "its layout is v2.1"),
        ({"features": {}}, "KeyError"),
        ({"data_path": "../../{chunk_index}{file_index}.parquet"}, "points outside"),
    ],
)
def test_a_set_that_is_none(folder: Path, change: dict, expected: str) -> None:
    file = folder / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(V2WError, match=expected):
        list(lerobot.read(folder))


def test_missing_parts(folder: Path) -> None:
    shutil.rmtree(folder / "videos")
    with pytest.raises(V2WError, match="file-000.mp4 is missing"):
        list(lerobot.read(folder))
    with pytest.raises(V2WError, match="no such folder"):
        list(lerobot.read(folder / "nowhere"))
    with pytest.raises(V2WError, match="no camera 'left'"):
        list(lerobot.read(folder, camera="left"))


@pytest.mark.parametrize("pattern", ["*.mp4", "data/**/*.parquet", "meta/episodes/**/*.parquet"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_damaged_files(folder: Path, pattern: str, keep: float) -> None:
    (file,) = folder.rglob(pattern) if "/" not in pattern else folder.glob(pattern)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(V2WError, match="file-000" if "episodes" not in pattern else "episodes"):
        list(lerobot.read(folder))


def test_nothing_is_overwritten(folder: Path) -> None:
    with pytest.raises(V2WError, match="not empty"):
        lerobot.write(episodes(), folder, fps=9, action_names=["x", "y"], task="test", robot="none")


def test_bad_episodes() -> None:
    good = episodes()[0]
    with pytest.raises(V2WError, match="5 frames but actions of shape"):
        Episode(good.frames, good.actions[:4])
    with pytest.raises(V2WError, match="NaN"):
        Episode(good.frames, good.actions * np.nan)
    with pytest.raises(V2WError, match="uint8"):
        Episode(good.frames.astype(np.float32), good.actions)

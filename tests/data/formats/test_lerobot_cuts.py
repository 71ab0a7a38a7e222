"""An episode that its video or its times do not cover is cut and counted; a data set of such episodes is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.coloured import episodes
from tests.hostile.datasets.videos import encoded
from tests.hostile.datasets.whole import CAMERA, DATA, EPISODES, FPS, VIDEO, column, write
from v2w_convert.data import Episode, open_dataset, write_dataset
from v2w_convert.errors import V2WError

ENDS = f"videos/{CAMERA}/to_timestamp"
BEGINS = f"videos/{CAMERA}/from_timestamp"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Episodes of 5, 9 and 2 frames."""
    return write(tmp_path / "set")


def moved(number: int, frames: float) -> Callable[[list[float]], list[float]]:
    return lambda times: [time + frames / FPS * (i == number) for i, time in enumerate(times)]


def check(folder: Path, lengths: list[int], fault: str) -> list[Episode]:
    """Reads the data set: episodes of these lengths, whose frames and actions are those that were recorded."""
    data = open_dataset(folder)
    found = list(data.episodes())
    assert data.lengths == lengths == [len(one) for one in found] == [len(one) for one in data.actions()]
    assert len(data) == len(data.tasks) == len(lengths)
    assert len(data.faults) == 1 and fault in data.faults[0]
    originals = [one for one in episodes() if len(one) in (len(f) for f in found) or len(lengths) == 3]
    for one, whole in zip(found, originals, strict=True):
        assert np.array_equal(one.actions, whole.actions[: len(one)])
        assert np.abs(one.frames.astype(int) - whole.frames[: len(one)]).max() <= 5
    return found


def test_a_video_that_lacks_its_last_frame(folder: Path) -> None:
    (folder / VIDEO).write_bytes(encoded("mp4", count=15))
    check(folder, [5, 9, 1], "episode 2: 1 of 2 frames used, camera 'observation.image'")


def test_a_video_that_is_listed_as_a_frame_shorter(folder: Path) -> None:
    column(EPISODES, ENDS, moved(1, -1))(folder)
    check(folder, [5, 8, 2], "episode 1: 8 of 9 frames used, camera 'observation.image'")


def test_a_surplus_frame_is_left_out(folder: Path) -> None:
    (folder / VIDEO).write_bytes(encoded("mp4", count=16))
    column(EPISODES, ENDS, moved(2, 1))(folder)
    data = open_dataset(folder)
    assert data.lengths == [5, 9, 2] and data.faults == []  # listed, but not there

    frames = [
        np.concatenate([e.frames, e.frames[-1:]]) if i == 0 else e.frames for i, e in enumerate(episodes())
    ]
    longer = [Episode(f, np.zeros((len(f), 2), np.float32)) for f in frames]
    other = folder.parent / "other"
    write_dataset(longer, other, fps=FPS, action_names=["x", "y"])
    (folder / VIDEO).write_bytes((other / VIDEO).read_bytes())  # of 6, 9 and 2 frames
    for name, numbers in ((ENDS, (0, 1, 2)), (BEGINS, (1, 2))):
        for number in numbers:
            column(EPISODES, name, moved(number, 0 if (name, number) == (ENDS, 2) else 1))(folder)
    check(folder, [5, 9, 2], "episode 0: 1 frames of camera 'observation.image' without a row left out")


def test_rows_whose_times_drift(folder: Path) -> None:
    column(DATA, "timestamp", lambda times: [t + 0.6 / FPS * (i == 13) for i, t in enumerate(times)])(folder)
    check(folder, [5, 8, 2], "episode 1: 8 of 9 frames used, column 'timestamp' has no more")


def test_an_episode_of_which_nothing_is_left_is_left_out(folder: Path) -> None:
    """More is lost than is allowed of so small a set, so that a large one stands around it."""
    first, long, short = episodes()
    large = folder.parent / "large"
    write_dataset([first, *[long] * 9, short], large, fps=FPS, action_names=["x", "y"])
    column(DATA, "timestamp", lambda times: [t + 1 if i < 5 else t for i, t in enumerate(times)])(large)
    data = open_dataset(large)
    assert data.lengths == [9] * 9 + [2] and len(data.faults) == 1
    assert np.array_equal(data.first().actions, long.actions)
    assert [len(one) for one in data.episodes()] == data.lengths


def test_more_than_a_tenth_is_a_wrong_description(folder: Path) -> None:
    column(DATA, "timestamp", lambda times: [t + 0.6 / FPS * (i in (12, 13)) for i, t in enumerate(times)])(
        folder
    )
    found = r"2 of 16 frames are missing or not at their times \(9 a second\); episode 1: 7 of 9 frames used"
    with pytest.raises(V2WError, match=found):
        _ = open_dataset(folder).lengths

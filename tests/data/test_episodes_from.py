"""A resumed encoding begins in the middle: the episodes before are not decoded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data import rlds
from tests.data.recordings import folder_of_videos
from tests.data.written import robomimic
from tests.squares import write
from v2w_convert.data import Dataset, DataSettings, Episode, open_dataset
from v2w_convert.data.formats import lerobot_cameras
from v2w_convert.data.validation.videos import decode


def same(a: Episode, b: Episode) -> bool:
    return np.array_equal(a.frames, b.frames) and np.array_equal(a.actions, b.actions) and a.tasks == b.tasks


@pytest.mark.parametrize("viewed", [False, True])
@pytest.mark.parametrize("kind", ["lerobot", "folder", "hdf5", "rlds"])
def test_they_are_those_that_come_later(kind: str, viewed: bool, tmp_path: Path) -> None:
    if kind == "hdf5":
        pytest.importorskip("h5py")
    path = {
        "lerobot": lambda: write(tmp_path / "data", (5, 3, 4)),
        "folder": lambda: folder_of_videos(tmp_path / "data"),
        "hdf5": lambda: robomimic(tmp_path / "data.hdf5"),
        "rlds": lambda: rlds.write(tmp_path / "data"),
    }[kind]()
    view: dict[str, Any] = {"height": 4, "width": 4, "stride": 2} if viewed else {}
    camera = "agentview_image" if kind == "hdf5" else None
    if kind == "rlds":
        view |= {"stride": None, "fps": 10}
    data: Dataset = open_dataset(path, DataSettings(camera=camera, **view))
    every = list(data.episodes())
    assert len(every) == 3
    for number in range(4):
        later = list(data.episodes_from(number))
        assert len(later) == 3 - number
        assert all(map(same, later, every[number:]))


def test_those_before_are_not_decoded(tmp_path: Path) -> None:
    data = open_dataset(folder_of_videos(tmp_path / "data"))
    expected = list(data.episodes())[1:]
    (tmp_path / "data/clip_2.mp4").unlink()
    assert all(map(same, data.episodes_from(1), expected))


def test_in_one_video_those_before_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset(write(tmp_path / "data", (50, 30, 4)))
    decoded = []

    def counted(*args: Any, **options: Any) -> Iterator[tuple[float, Any]]:
        for time, frame in decode(*args, **options):
            decoded.append(time)
            yield time, frame

    monkeypatch.setattr(lerobot_cameras, "decode", counted)
    [last] = data.episodes_from(2)
    assert len(last) == 4
    assert 4 <= len(decoded) <= 6  # a key frame is every second frame

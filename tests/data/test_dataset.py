"""The one door to data: formats are tried in turn, and a new one is a class and a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from v2w_convert.data import Dataset, DataSettings, Episode, Format, formats, open_dataset
from v2w_convert.data.dataset import choose_camera, choose_cameras
from v2w_convert.errors import V2WError


class ArrayDataset(Dataset):
    """One episode in an npz file."""

    def __init__(self, path: Path, settings: DataSettings):
        self.path = path
        self.camera = choose_camera(path, self.cameras, settings.camera)
        self.arrays = dict(np.load(path))

    fps = 10.0
    cameras: ClassVar[list[str]] = ["only"]

    @property
    def action_names(self) -> list[str]:
        return [f"action_{i}" for i in range(self.arrays["actions"].shape[1])]

    @property
    def lengths(self) -> list[int]:
        return [len(self.arrays["frames"])]

    def episodes(self) -> Iterator[Episode]:
        yield Episode(self.arrays["frames"], self.arrays["actions"])

    def fingerprint(self) -> str:
        return "0" * 64


class ArrayFormat(Format):
    name = "NumPy"
    contents = "a file that ends in .npz"

    def matches(self, path: Path) -> bool:
        return path.suffix == ".npz"

    def open(self, path: Path, settings: DataSettings) -> Dataset:
        return ArrayDataset(path, settings)


def test_a_new_format_is_a_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "episode.npz"
    np.savez(file, frames=np.zeros((4, 8, 8, 3), np.uint8), actions=np.ones((4, 2), np.float32))
    with pytest.raises(V2WError, match=r"a file of no known format \(try: LeRobot: a folder with meta/info"):
        open_dataset(file)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, ArrayFormat()))
    found = open_dataset(file)
    assert (found.name, found.action_dim, len(found)) == ("episode.npz", 2, 1)
    assert len(found.first()) == 4
    with pytest.raises(V2WError, match="no camera 'left'"):
        open_dataset(file, DataSettings(camera="left"))
    with pytest.raises(V2WError, match=r"holds episode\.npz \(try: .*/episode\.npz\)"):
        open_dataset(tmp_path)
    file.rename(tmp_path / "notes")
    with pytest.raises(V2WError, match=r"; NumPy: a file that ends in \.npz"):
        open_dataset(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(V2WError, match="no such folder or file"):
        open_dataset(tmp_path / "nowhere")


def test_cameras(tmp_path: Path) -> None:
    assert choose_cameras(tmp_path, ["a"], None) == ["a"]
    assert choose_cameras(tmp_path, ["a", "b"], "b") == ["b"]
    assert choose_cameras(tmp_path, ["a", "b", "c"], "c,a") == ["c", "a"]
    assert choose_cameras(tmp_path, ["a,b", "a", "b"], "a,b") == ["a,b"]
    for cameras, camera, found in (
        ([], None, "it has no camera"),
        (["a", "b"], None, "several cameras: a, b"),
        (["a", "b"], "a,x", "no camera 'x'"),
        (["a", "b"], "a,a", "a camera is named twice"),
    ):
        with pytest.raises(V2WError, match=found):
            choose_cameras(tmp_path, cameras, camera)
    with pytest.raises(V2WError, match=r"several cameras: a,b"):
        choose_camera(tmp_path, ["a", "b"], "a,b")

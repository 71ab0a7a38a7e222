"""Data of other formats than v2w writes, through the commands that use it."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.commands import printed, refused
from tests.conftest import ACTIONS
from tests.data.recordings import table, video
from tests.data.written import plain

NAMES = ["left", "right", "ahead"]
KEYS = ["--key-map", "frames=rgb,actions=done", "--fps", 9]


def write(kind: str, folder: Path) -> list[object]:
    """Three episodes of 24 frames; returns the flags that say how to read them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        frames = random.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
        actions = np.eye(ACTIONS)[random.integers(ACTIONS, size=24)]
        if kind == "videos":
            video(folder / f"walk_{number}.mp4", frames)
            table(folder / f"walk_{number}.csv", actions, NAMES)
        else:
            pytest.importorskip("h5py")
            plain(folder / f"{number}.hdf5", rgb=frames, done=actions)
    return KEYS if kind == "hdf5" else []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["videos", "hdf5"])
def test_finetune_and_rollout(
    kind: str, tiny_converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = write(kind, tmp_path / "data")
    data = ["--data", tmp_path / "data"]
    short = ["--steps", 1, "--batch", 1, "--frames", 2]
    result = printed(capsys, "finetune", tiny_converted, *data, "-o", tmp_path / "run", *short, *flags)
    assert result["actions"]["count"] == 3 * 23
    # What was said of the data holds for what is said of it later.
    printed(
        capsys, "rollout", tmp_path / "run", *data, "-o", tmp_path / "out.mp4", "--frames", 1, "--steps", 1
    )
    (tmp_path / "data" / "more.mp4").write_bytes(b"")
    if kind == "videos":
        line = refused(capsys, "rollout", tmp_path / "run", *data, "-o", tmp_path / "more.mp4", "--frames", 1)
        assert "more.mp4: it is damaged or not such a video" in line


def test_settings_that_a_format_does_not_take(
    tiny_converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("videos", tmp_path / "data")
    line = refused(
        capsys, "rollout", tiny_converted, "--data", tmp_path / "data", "-o", tmp_path / "out.mp4", "--state"
    )
    assert "folder of recordings does not take --state" in line

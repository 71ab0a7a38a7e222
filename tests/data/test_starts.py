"""First frames of episodes that are kept with a model."""

from pathlib import Path

import numpy as np
import pytest

from tests.squares import moving_square, write
from v2w_convert.data import DataSettings, Episode, open_dataset, write_dataset
from v2w_convert.data.starts import EPISODES, STARTS, open_starts, spread, write_starts
from v2w_convert.errors import V2WError


@pytest.mark.parametrize("stride", [2, 12])
def test_they_are_as_the_model_was_trained_on_them(stride: int, tmp_path: Path) -> None:
    """Read again they are not thinned out or resized once more, as `--data` is."""
    view = DataSettings(stride=stride, height=8, width=8)
    path = write(tmp_path / "data", (6 * stride, stride, 10 * stride))
    data = open_dataset(path, view)
    assert write_starts(data, tmp_path, 5) is None
    assert write_starts(data, tmp_path, 4) is None  # in place of the others
    assert not (tmp_path / f"{STARTS}.partial").exists()
    kept = open_starts(tmp_path, None, DataSettings(), view, "play", "--data")
    assert kept.lengths == [4, 4] and kept.fps == max(1, round(data.fps))
    labels = [[(part.kind, part.labels) for part in each.action_space.parts] for each in (kept, data)]
    assert labels[0] == labels[1]
    for own, episode in zip(kept.episodes(), (data.first(), next(iter(data.episodes_from(2)))), strict=True):
        assert np.array_equal(own.actions, episode.actions[:4])
        assert np.abs(own.frames - episode.frames[:4].astype(float)).mean() < 8
    named = open_starts(tmp_path, path, DataSettings(), view, "play", "--data")
    assert named.lengths == data.lengths


def test_each_says_what_was_being_done(tmp_path: Path) -> None:
    squares = [moving_square(6, seed) for seed in range(3)]
    episodes = (Episode(e.frames, e.actions, (f"task {n}",)) for n, e in enumerate(squares))
    write_dataset(episodes, tmp_path / "data", fps=5, action_names=["down", "right", "nothing"])
    assert write_starts(open_dataset(tmp_path / "data"), tmp_path, 4) is None
    kept = open_starts(tmp_path, None, DataSettings(), DataSettings(), "play", "--data")
    assert [episode.tasks for episode in kept.episodes()] == [("task 0",), ("task 1",), ("task 2",)]


def test_they_are_spread_over_the_data() -> None:
    assert spread([9] * 100, 5, 3) == [0, 50, 99]
    assert spread([9, 2, 9], 5, EPISODES) == [0, 2]
    assert spread([2], 5, EPISODES) == []


def test_odd_sides_are_said(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path / "data", (12,)), DataSettings(height=9, width=8))
    said = write_starts(data, tmp_path, 4)
    assert said is not None and "frames of 9 x 8" in said
    with pytest.raises(V2WError, match="no frames to begin from"):
        open_starts(tmp_path, None, DataSettings(), DataSettings(), "play", "--data")


def test_a_link_out_of_the_model_is_refused(tmp_path: Path) -> None:
    """One beside them, such as latents that lie on another disk, is not looked at."""
    model = tmp_path / "model"
    model.mkdir()
    assert write_starts(open_dataset(write(tmp_path / "data", (12,))), model, 4) is None
    (model / "latents").symlink_to(tmp_path / "data")
    given = (None, DataSettings(), DataSettings(), "play", "--data")
    assert open_starts(model, *given).lengths == [4]
    (model / STARTS).rename(tmp_path / "elsewhere")
    (model / STARTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(V2WError, match="is a link to"):
        open_starts(model, *given)

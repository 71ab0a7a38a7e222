"""Frames of one size, every stride-th of them, and the actions that lead from one to the next."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.coloured import episodes
from v2w_convert.data import Dataset, DataSettings, open_dataset, write_dataset
from v2w_convert.data.actions import ActionPart
from v2w_convert.data.view import DatasetView, decided, later, resized, together
from v2w_convert.errors import V2WError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "coloured"
    write_dataset(episodes(), folder, fps=30, action_names=["x", "y"], task="test")
    return folder


def halves(h: int, w: int) -> NDArray[np.uint8]:
    """Two frames (2 h w 3), dark on the left and bright on the right."""
    frames = np.full((2, h, w, 3), 40, np.uint8)
    frames[:, :, w // 2 :] = 200
    return frames


def test_without_settings_a_data_set_is_itself(folder: Path) -> None:
    plain = open_dataset(folder)
    for settings in (DataSettings(stride=1), DataSettings(fps=30)):
        data = open_dataset(folder, settings)
        assert type(data) is type(plain)
        assert data.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize("settings", [DataSettings(stride=3), DataSettings(fps=10)])
def test_a_stride_keeps_every_action(folder: Path, settings: DataSettings) -> None:
    plain, data = open_dataset(folder), open_dataset(folder, settings)
    assert (data.fps, data.lengths, data.camera, data.cameras) == (10, [2, 3, 1], plain.camera, plain.cameras)
    assert data.action_names == ["x", "y", "x+1", "y+1", "x+2", "y+2"] and data.action_dim == 6
    assert data.tasks == plain.tasks and data.name == plain.name
    for one, other, alone in zip(plain.episodes(), data.episodes(), data.actions(), strict=True):
        np.testing.assert_array_equal(other.frames, one.frames[::3])
        np.testing.assert_array_equal(other.actions, alone)
        for row in range(len(other) - 1):
            np.testing.assert_array_equal(other.actions[row], one.actions[3 * row : 3 * row + 3].ravel())
        assert other.actions[-1][-2:].tolist() == one.actions[-1].tolist()
        assert other.tasks == one.tasks


def test_actions_that_lead_to_a_frame_are_all_those_since_the_last_one() -> None:
    actions = np.arange(7, dtype=np.float32)[:, None]
    assert together(actions, 3).tolist() == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    assert together(actions[:6], 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert together(actions, 1).tolist() == actions.tolist()


def test_a_choice_that_is_made_later_keeps_its_labels() -> None:
    assert later(ActionPart("key", "discrete", 2, ("up", "down")), 1).labels == ("up", "down")
    assert later(ActionPart("key", "discrete", 2, ("up", "down")), 1).name == "key+1"


@pytest.mark.parametrize("fps", [20.0, 12.0, 45.0])
def test_a_rate_that_no_stride_gives_is_refused(folder: Path, fps: float) -> None:
    with pytest.raises(V2WError, match=r"it has 30, of which .* \(try: --fps .* or --stride 1"):
        open_dataset(folder, DataSettings(fps=fps))


def test_a_rate_of_nearly_a_whole_stride(folder: Path) -> None:
    assert open_dataset(folder, DataSettings(fps=9.99)).fps == 10


def test_a_stride_that_leaves_one_frame_of_an_episode_is_refused(folder: Path) -> None:
    assert open_dataset(folder, DataSettings(stride=8)).lengths == [1, 2, 1]
    for settings in (DataSettings(stride=9), DataSettings(stride=1_000_000), DataSettings(fps=0.001)):
        with pytest.raises(V2WError, match="the longest episode has 9"):
            open_dataset(folder, settings)


def test_fits(folder: Path) -> None:
    wide = halves(8, 24)
    assert resized(wide, (8, 24), "pad", "", 0) is wide
    crop = resized(wide, (8, 8), "crop", "", 0)
    assert crop.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(crop, wide[:, :, 8:16])  # from the middle, not scaled
    pad = resized(wide, (24, 24), "pad", "", 0)
    assert (pad[:, :8] == 0).all() and (pad[:, 16:] == 0).all()
    np.testing.assert_array_equal(pad[:, 8:16], wide)
    stretched = resized(wide, (4, 4), "stretch", "", 0)
    assert (stretched[:, :, 0] < 60).all() and (stretched[:, :, -1] > 180).all()
    tall = halves(24, 8)
    np.testing.assert_array_equal(resized(tall, (8, 8), "crop", "", 0), tall[:, 8:16])
    assert (resized(tall, (24, 24), "pad", "", 0)[:, :, :8] == 0).all()
    assert resized(halves(100, 1), (2, 64), "pad", "", 0).shape == (2, 2, 64, 3)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_frames_that_are_made_smaller_are_averaged(fit: str) -> None:
    """A chessboard becomes grey, not black or white."""
    board = np.indices((32, 32)).sum(0) % 2 * 255
    frames = np.repeat(board[None, :, :, None], 3, -1).astype(np.uint8)
    small = resized(frames, (8, 8), fit, "", 0)
    assert abs(small.astype(int) - 127).max() < 40


def test_sizes_are_those_of_every_frame(folder: Path) -> None:
    def fingerprint(**given: object) -> str:
        return open_dataset(folder, DataSettings.model_validate(given)).fingerprint()

    data = open_dataset(folder, DataSettings(height=8, width=12))
    assert all(episode.frames.shape[1:] == (8, 12, 3) for episode in data.episodes())
    assert data.fps == 30 and data.action_names == ["x", "y"]
    size = {"height": 8, "width": 12}
    views: list[dict[str, object]] = [{}, size, size | {"fit": "pad"}, size | {"stride": 2}, {"stride": 2}]
    prints = [fingerprint(**view) for view in views]
    assert len(set(prints)) == len(prints)
    assert fingerprint(**size, fit="crop") == fingerprint(**size)


def test_a_fit_without_a_size_is_refused(folder: Path) -> None:
    with pytest.raises(V2WError, match=r"--fit without a size \(try: --height and --width"):
        open_dataset(folder, DataSettings(fit="pad"))


def test_what_a_model_was_trained_on_holds_unless_something_else_is_said(folder: Path) -> None:
    def read(**given: object) -> Dataset:
        return open_dataset(folder, DataSettings.model_validate(given), recorded)

    trained = open_dataset(folder, DataSettings(height=8, width=8, stride=3, fit="pad"))
    recorded = decided(trained, DataSettings(), DataSettings(fit="pad"), trained.first().frames[0])
    assert recorded.said() == {"height": 8, "width": 8, "fit": "pad", "fps": 10.0}
    assert read().fingerprint() == trained.fingerprint()
    assert read(stride=1).fps == 30 and read(fps=15).fps == 15
    assert read(height=4, width=4).first().frames.shape == (2, 4, 4, 3)
    # Of a setting that this format has no use for nothing holds; given as a flag it is refused.
    recorded = DataSettings(key_map="robomimic")
    assert read().fps == 30
    with pytest.raises(V2WError, match="does not take --key-map"):
        read(key_map="robomimic")


def test_a_view_says_of_everything_what_its_data_says() -> None:
    """A new member of `Dataset` with a default must not be forgotten here."""
    follow = {"name", "action_dim", "first", "format"}  # from the others, or set
    members = {name for name in vars(Dataset) if not name.startswith("_")} - follow
    assert members <= vars(DatasetView).keys()

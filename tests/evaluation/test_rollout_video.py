from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from v2w_convert.data import Episode
from v2w_convert.data.formats.lerobot import LeRobotDataset
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.rollout_video import rollout, true_and_other_actions
from v2w_convert.evaluation.settings import RolloutSettings
from v2w_convert.surgery.load import load

SETTINGS = RolloutSettings(steps=1, history=2, frames=9, device="cpu")


def test_a_video_plays_at_the_rate_of_the_data(tiny_converted: Path, tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "rollout.mp4"
    result = rollout(tiny_converted, tiny_data, file, SETTINGS)
    assert (result.output, result.data, result.history, result.frames) == (str(file), "squares", 2, 9)
    assert result.panels == ["truth, episode 0", "rollout", "same start, other actions"]
    level = load(tiny_converted).noise.history_level  # where the settings name none
    decided = {"height": 16, "width": 16, "fit": "crop", "fps": 5.0}  # as the data is
    expected = SETTINGS.model_copy(update={"context_noise": level, "dtype": "float32", **decided})
    assert RolloutSettings.model_validate(result.settings) == expected
    with av.open(str(file)) as video:
        assert video.streams.video[0].average_rate == 5
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 11
    assert frames[0].shape[1] == 3 * 3 * 16
    # The first episode has nine frames; grey follows. H.264 keeps even colours within a few steps.
    below = [frame[-40:, :40] for frame in frames]
    assert np.abs(below[10].astype(int) - 128).max() <= 4
    assert np.abs(below[8].astype(int) - 128).max() > 40


def test_a_contact_sheet(tiny_converted: Path, tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "rollout.png"
    rollout(tiny_converted, tiny_data, file, SETTINGS)
    with Image.open(file) as sheet:
        assert sheet.width == 11 * (2 * 16 + 4) - 4


def test_targets_are_checked_before_any_work(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_text("mine")
    for name, match in (
        ("there.png", "the file exists"),
        ("a.avi", r"suffix '.avi' \(try: .mp4, .gif or .png\)"),
        ("nowhere/a.mp4", "there is no folder"),
    ):
        with pytest.raises(V2WError, match=match):
            rollout(tmp_path / "no model", tiny_data, tmp_path / name, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_an_episode_that_is_not_there(tiny_converted: Path, tiny_data: Path, tmp_path: Path) -> None:
    for changes, match in (
        ({"episode": 4}, r"there are 4 episodes \(try: --episode 0 … 3\)"),
        ({"episode": 1, "history": 4}, "it has 3 frames, fewer than 4 of history"),
    ):
        with pytest.raises(V2WError, match=match):
            rollout(tiny_converted, tiny_data, tmp_path / "a.png", SETTINGS.model_copy(update=changes))
    assert not list(tmp_path.iterdir())


def test_no_other_episode_is_decoded(
    tiny_converted: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode = [], LeRobotDataset.episodes_from

    def noted(self: LeRobotDataset, number: int) -> Iterator[Episode]:
        for i, episode in enumerate(decode(self, number), number):
            decoded.append(i)
            yield episode

    monkeypatch.setattr(LeRobotDataset, "episodes_from", noted)
    rollout(tiny_converted, tiny_data, tmp_path / "a.png", SETTINGS.model_copy(update={"episode": 2}))
    assert decoded == [2]


def test_actions_go_on_with_the_episodes_after_it() -> None:
    taken = [np.arange(first, first + t, dtype=np.float32)[:, None] for first, t in ((0, 4), (10, 3))]
    true, other = true_and_other_actions(taken, 0, 2, 7)[..., 0]
    # Row i led to frame i; the last action of an episode led nowhere.
    assert true.tolist() == [0, 0, 1, 2, 10, 11, 0]
    assert other.tolist() == [0, 0, 11, 0, 1, 2, 10]

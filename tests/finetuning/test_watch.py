"""Trackers and rollouts while training: what they get, and that they change nothing of the run."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.cli.commands import refused
from tests.finetuning.test_finetune import Stop, contents, stop_at
from v2w_convert.cli import run as v2w
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.finetune import finetune
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.trackers import Trackers
from v2w_convert.links import require_plain

PACKAGES = ("tensorboard", "trackio", "wandb")
SHORT = FinetuneSettings(steps=3, batch=1, frames=6, warmup=0)


def frames_of(video: Path) -> Any:
    with av.open(str(video)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_rollouts_are_shown_beside_the_truth_and_change_nothing(
    tiny_converted: Path, tiny_data: Path, tiny_validation: Path, tmp_path: Path
) -> None:
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    finetune(tiny_converted, tiny_data, plain, SHORT)
    showing = SHORT.model_copy(update={"rollout_every": 2, "rollout_frames": 30})
    finetune(tiny_converted, tiny_data, watched, showing)
    videos = sorted((watched / "rollouts").iterdir())
    assert [video.name for video in videos] == ["step-00000002.mp4"]

    shown = frames_of(videos[0])
    true = [episode.frames for episode in open_dataset(tiny_data).episodes() if len(episode) > 8]
    assert [len(frames) for frames in true] == [9, 12]
    t, height, width = shown.shape[:3]
    assert (
        t == 9 and width == 4 * 128 and height > 128
    )  # the shorter episode's; two panels for each, enlarged
    for number in (0, 1):
        large = true[number][:9].repeat(8, 1).repeat(8, 2).astype(float)
        panels = shown[:, -128:].reshape(9, 128, 4, 128, 3).swapaxes(1, 2).astype(float)
        truth, rolled = panels[:, 2 * number], panels[:, 2 * number + 1]
        # H.264's halved colour planes blur the edges of the square.
        assert np.abs(truth - large).mean() < 12
        assert np.abs(truth - rolled)[:8].mean() < 2 < np.abs(truth - rolled)[8].mean()  # a history of 8

    def model(folder: Path) -> dict[str, str]:
        return {
            k: v for k, v in contents(folder).items() if not k.startswith("rollouts") and k != "config.yaml"
        }

    assert model(watched) == model(plain)
    further = tmp_path / "further"
    finetune(watched, tiny_data, further, SHORT.model_copy(update={"steps": 1}))
    assert not (further / "rollouts").exists()


def test_a_run_that_is_resumed_may_be_watched_otherwise(
    tiny_converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    settings = SHORT.model_copy(update={"checkpoint_every": 1, "rollout_every": 2, "rollout_frames": 1})
    with pytest.raises(Stop):
        finetune(tiny_converted, tiny_data, tmp_path / "run", settings, progress=stop_at("train", 2))
    before = (tmp_path / "run/rollouts/step-00000002.mp4").read_bytes()
    again = settings.model_copy(update={"rollout_every": 1, "rollout_episodes": 1})
    finetune(tiny_converted, tiny_data, tmp_path / "run", again)
    names = {file.name for file in (tmp_path / "run/rollouts").iterdir()}
    assert names == {"step-00000002.mp4", "step-00000003.mp4"}
    assert (tmp_path / "run/rollouts/step-00000002.mp4").read_bytes() == before


def test_rollouts_that_no_episode_is_long_enough_for_are_refused(
    tiny_converted: Path, write_squares: Any, tmp_path: Path
) -> None:
    data = write_squares(tmp_path / "short", (7, 8))
    with pytest.raises(
        V2WError, match="begin with 8 frames, and the longest episode has 8.*no --rollout-every"
    ):
        finetune(tiny_converted, data, tmp_path / "run", SHORT.model_copy(update={"rollout_every": 1}))


@pytest.mark.parametrize("name", PACKAGES)
def test_a_tracker_that_is_not_installed_is_refused_by_name(
    name: str, tiny_converted: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    run = tmp_path / "run"
    line = refused(capsys, "finetune", tiny_converted, "--data", tiny_data, "-o", run, "--report-to", name)
    assert f"report to {name}: not installed" in line and f"v2w-convert[{name}]" in line
    assert not run.exists()


def test_tensorboard_gets_what_the_log_has(
    tiny_converted: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    arguments = [tiny_converted, "--data", tiny_data, "-o", run, "--validation", tiny_data, "--steps", 3]
    arguments += ["--batch", 1, "--frames", 6, "--report-to", "tensorboard", "--rollout-every", 2, "--json"]
    assert v2w(["finetune", *map(str, arguments)]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3  # one line: nothing else is printed there
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for key in ("loss", "lr", "gradient_norm", "validation_loss"):
        found = [(event.step, event.value) for event in events.Scalars(key)]
        assert found == [(line["step"], pytest.approx(line[key])) for line in logged if key in line], key
    assert [image.step for image in events.Images("rollouts")] == [2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_that_is_installed_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not find_spec(name):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.chdir(tmp_path)
    (run := tmp_path / "run").mkdir()
    trackers = Trackers([name], "v2w-tests", run, {"steps": 2})  # type: ignore[list-item]
    for step in (1, 2):
        trackers.log({"step": step, "loss": 1 / step, "seconds": None})
    trackers.picture("rollouts", np.zeros((8, 8, 3), np.uint8), 2)
    trackers.close()
    assert capsys.readouterr().out == ""
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size]
    assert written
    require_plain(run, "resume it")  # wandb's files have a link out of their folder


def test_what_a_tracker_prints_and_raises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A module of the tracker's name, in place of the package, which would need a network to fail."""
    (tmp_path / "wandb.py").write_text(
        "def init(**given):\n    print('welcome')\n    raise RuntimeError('not\\nlogged in')\n"
    )
    sys.path.insert(0, str(tmp_path))
    loaded = sys.modules.pop("wandb", None)
    try:
        trackers = Trackers(["wandb"], "v2w", tmp_path, {})
        with pytest.raises(V2WError, match="report to wandb: RuntimeError: not logged in"):
            trackers.log({"step": 1, "loss": 1.0})
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("wandb", None)
        if loaded is not None:
            sys.modules["wandb"] = loaded
    assert capsys.readouterr().out == ""

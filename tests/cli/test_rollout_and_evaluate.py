"""`v2w rollout` and `v2w evaluate`."""

import json
import shutil
from functools import partial
from pathlib import Path

import av
import pytest
from PIL import Image

from tests.cli.commands import printed, refused
from v2w_convert.cli import run
from v2w_convert.evaluation import action_following

BRIEF = ["--steps", 1, "--samples", 1, "--history", 2, "--horizons", 1, "--horizons", 4]


def test_rollout(
    tiny_converted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--frames", 4, "--steps", 2]
    for name in ("out.mp4", "sheet.png"):
        result = printed(capsys, "rollout", tiny_converted, "--data", data, "-o", tmp_path / name, *options)
        assert result["frames"] == 4
        assert (tmp_path / name).stat().st_size > 500
        assert "steps: 2\n" in (tmp_path / f"{name}.config.yaml").read_text()
    again = ["rollout", tiny_converted, "--data", data, "-o", tmp_path / "out.mp4"]
    capsys.readouterr()
    assert run([str(x) for x in [*again[:-1], tmp_path / "third.png", *options]]) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("same start, other actions; 8 recorded frames, then 4 generated; steps 2, frames 4")
    assert "file exists" in refused(capsys, *again)


@pytest.mark.parametrize(("consistency", "steps"), [(None, 10), (0.0, 10), (0.5, 2)])
def test_a_model_that_was_finetuned_for_few_steps_is_sampled_in_few(
    consistency: float | None,
    steps: int,
    tiny_converted: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(tiny_converted, run_folder)
    record = json.loads((run_folder / "v2w.json").read_text())
    objective = {} if consistency is None else {"objective": {"consistency": consistency}}
    record |= {"stage": "finetuned", "finetuning": {"steps": 3, **objective}}
    (run_folder / "v2w.json").write_text(json.dumps(record))
    brief = ["--data", data, "--history", 2]
    made = {}
    for name, options in (("own", []), ("said", ["--steps", steps])):
        file = tmp_path / f"{name}.png"
        result = printed(capsys, "rollout", run_folder, *brief, "--frames", 2, *options, "-o", file)
        assert result["settings"]["steps"] == steps
        made[name] = file.read_bytes()
    assert made["own"] == made["said"]
    short = ["--episodes", 2, "--samples", 1, "--horizons", 1, "--long-frames", 0]
    evaluated = printed(capsys, "evaluate", run_folder, *brief, *short, "-o", tmp_path / "f.json")
    assert evaluated["settings"]["steps"] == steps


def test_evaluate(
    tiny_converted: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How well it reads is tests/evaluation's; here it only has to run.
    train = partial(action_following.train_inverse_dynamics, steps=3)
    monkeypatch.setattr(action_following, "train_inverse_dynamics", train)
    arguments = [
        "evaluate",
        tiny_converted,
        "--data",
        data,
        "--steps",
        2,
        "--samples",
        2,
        "--long-frames",
        20,
    ]
    figures = tmp_path / "figures.json"
    result = printed(capsys, *arguments, "--classifier-data", data, "-o", figures)
    assert json.loads(figures.read_text()) == result
    assert "long_frames: 20\n" in (tmp_path / "figures.json.config.yaml").read_text()
    assert "file exists" in refused(capsys, *arguments, "-o", figures)
    assert result["horizons"].keys() == {"1", "4", "8", "16"}
    assert result["horizons"]["1"]["psnr"].keys() == {"mean", "low", "high"}
    # An untrained action embedding ends in zeros: no action has an effect, and the gap is exactly nothing.
    assert result["actions"]["psnr_gap"]["1"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    [action] = result["actions"]["inverse_dynamics"]
    assert (action["name"], action["measure"]) == ("action", "accuracy")
    assert [x["last"] for x in result["long_horizon"]["drift"]] == list(range(2, 21, 2))


def test_evaluate_writes_a_page_videos_and_frames(
    tiny_converted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "report"
    arguments = ["evaluate", tiny_converted, "--data", data, *BRIEF, "--long-frames", 2, "--videos", 2]
    result = printed(capsys, *arguments, "--episodes", 2, "--batch", 5, "--save-frames", "-o", folder)
    assert json.loads((folder / "figures.json").read_text()) == result
    assert "save_frames: true\n" in (folder / "config.yaml").read_text()
    videos = sorted(path.name for path in (folder / "videos").iterdir())
    assert videos == ["clip-0000.mp4", "clip-0001.mp4"]
    with av.open(str(folder / "videos" / videos[0])) as video:
        assert video.streams.video[0].average_rate == 9  # the data's
        assert len(list(video.decode(video=0))) == 6
    names = {f"clip-{clip:04d}-frame-{frame:04d}.png" for clip in range(8) for frame in range(1, 5)}
    for series in ("recorded", "generated", "other_actions", "autoencoder_alone"):
        assert {path.name for path in (folder / "frames" / series).iterdir()} == names
    with Image.open(folder / "frames" / "generated" / "clip-0007-frame-0004.png") as picture:
        assert picture.size == (16, 16)
    page = (folder / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 2
    assert "it is not shown that actions are followed" in page
    assert "Frames do not change with action." in page
    assert page.count("src=") == 2 and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "report"}  # nothing unfinished


def test_what_evaluate_cannot_write_is_refused_first(
    tiny_converted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", tiny_converted, "--data", data]
    (tmp_path / "there").mkdir()
    assert "the file exists" in refused(capsys, *arguments, "-o", tmp_path / "there")
    assert "there is no folder" in refused(capsys, *arguments, "-o", tmp_path / "no" / "report")
    assert "no folder to put them into (try: -o FOLDER)" in refused(capsys, *arguments, "--save-frames")
    line = refused(capsys, *arguments, "--save-frames", "-o", tmp_path / "a.json")
    assert "a.json is one file" in line
    line = refused(capsys, *arguments, "--fid", tmp_path / "there", "-o", tmp_path / "report")
    assert "measure FID with" in line and "no such file" in line
    assert {path.name for path in tmp_path.iterdir()} == {"data", "there"}

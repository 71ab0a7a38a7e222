"""`v2w rollout` and `v2w evaluate`."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.cli.commands import printed, refused
from v2w_convert.evaluation import action_following


def test_rollout_and_evaluate(
    tiny_converted: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How well it classifies is tests/evaluation's; here it only has to run.
    train = partial(action_following.train_classifier, steps=3)
    monkeypatch.setattr(action_following, "train_classifier", train)
    for name in ("out.mp4", "sheet.png"):
        arguments = [
            "rollout",
            tiny_converted,
            "--data",
            data,
            "-o",
            tmp_path / name,
            "--frames",
            4,
            "--steps",
            2,
        ]
        result = printed(capsys, *arguments)
        assert result["frames"] == 4
        assert (tmp_path / name).stat().st_size > 500
        assert "steps: 2\n" in (tmp_path / f"{name}.config.yaml").read_text()
    assert "file exists" in refused(
        capsys, "rollout", tiny_converted, "--data", data, "-o", tmp_path / "out.mp4"
    )
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
    assert result["actions"]["psnr_gap"]["1"] == {
        "mean": 0.0,
        "low": 0.0,
        "high": 0.0,
    }
    assert result["actions"]["inverse_dynamics"].keys() == {
        "real",
        "round_tripped",
        "generated",
        "majority_class",
    }

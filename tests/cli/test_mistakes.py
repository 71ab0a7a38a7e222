"""Mistakes that several commands have in common: exit 2, one line, nothing written."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.commands import refused
from v2w_convert.cli import run


@pytest.mark.parametrize(
    "command", ["inspect", "verify", "convert", "finetune", "rollout", "evaluate", "export"]
)
def test_a_missing_folder(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {
        "convert": ["-o", tmp_path / "out", "--action-dim", 3],
        "finetune": ["--data", tmp_path, "-o", tmp_path / "run"],
        "rollout": ["--data", tmp_path, "-o", tmp_path / "out.mp4"],
        "evaluate": ["--data", tmp_path],
        "export": ["-o", tmp_path / "step.onnx"],
    }
    line = refused(capsys, command, tmp_path / "nowhere", *more.get(command, []))
    assert "no such folder" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "--wrong"],
        ["conver"],
        ["convert", "a", "-o", "b", "--action-dim", "x"],
        ["--wrong"],
        ["convert"],
    ],
)
def test_a_wrong_flag(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--help" in refused(capsys, *arguments)


def test_errors_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path / "x"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)
    assert error["ok"] is False
    assert error["error"].keys() == {"asked", "found", "try"}


def test_actions_of_another_length(
    tiny_base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(tiny_base), "-o", str(tmp_path / "out"), "--action-dim", "5"]) == 0
    for command in (
        ["finetune", tmp_path / "out", "-o", tmp_path / "run"],
        ["evaluate", tmp_path / "out"],
        ["rollout", tmp_path / "out", "-o", tmp_path / "out.mp4"],
    ):
        line = refused(capsys, *command, "--data", data)
        assert "3" in line
        assert "5" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


def test_an_empty_data_set(
    tiny_converted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = json.loads((data / "meta/info.json").read_text())
    (data / "meta/info.json").write_text(json.dumps({**info, "total_episodes": 0}))
    line = refused(capsys, "finetune", tiny_converted, "--data", data, "-o", tmp_path / "run")
    assert "no episode" in line
    shutil.rmtree(data)
    data.mkdir()
    assert "meta/info.json" in refused(capsys, "evaluate", tiny_converted, "--data", data)

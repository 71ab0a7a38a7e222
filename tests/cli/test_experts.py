"""A pipeline with two denoisers, through the command line."""

from pathlib import Path

import pytest

from tests.cli.commands import printed, refused
from tests.pairs import BOUNDARY, write_pair
from v2w_convert.cli import run


def test_both_denoisers_are_inspected_planned_and_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_pair(tmp_path / "base")
    assert printed(capsys, "inspect", base)["boundary"] == BOUNDARY
    assert run(["inspect", str(base)]) == 0
    assert "transformer from 0.875 of the timesteps on, transformer_2 below" in capsys.readouterr().err
    assert printed(capsys, "plan", base, "-o", tmp_path / "plan.yaml")["plan"] == "wan"
    result = printed(capsys, "convert", base, "-o", tmp_path / "out", "--action-dim", 3)
    one = printed(capsys, "convert", base / "transformer", "-o", tmp_path / "one", "--action-dim", 3)
    assert result["tensors"] == {status: 2 * count for status, count in one["tensors"].items()}
    assert "denoisers" in refused(capsys, "verify", tmp_path / "out", "--base", base / "transformer")
    assert "--height" in refused(capsys, "export", tmp_path / "one", "-o", tmp_path / "step.onnx")
    line = refused(capsys, "export", tmp_path / "out", "-o", tmp_path / "step.onnx")
    assert "it has two denoisers" in line


def test_a_folder_without_its_boundary_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_pair(tmp_path / "base", boundary_ratio=None)
    line = refused(capsys, "convert", base, "-o", tmp_path / "out", "--action-dim", 3)
    assert "no boundary_ratio between them" in line
    assert not (tmp_path / "out").exists()

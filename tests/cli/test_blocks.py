"""A world model that denoises blocks of frames, through every command."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import printed, refused
from tests.conftest import ACTIONS
from v2w_convert.cli import run


@pytest.mark.slow
def test_a_world_of_blocks_from_end_to_end(
    tiny_base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trained = tmp_path / "out", tmp_path / "trained"
    view = ["--frames-per-block", 3, "--window", 6]
    assert run([str(a) for a in ["convert", tiny_base, "-o", out, "--action-dim", ACTIONS, *view]]) == 0
    assert json.loads((out / "v2w.json").read_text())["plan"]["frames_per_block"] == 3
    printed(capsys, "verify", out, "--base", tiny_base)
    begin = ["finetune", out, "--data", data, "-o", trained, "--steps", 1, "--batch", 2]
    line = refused(capsys, *begin, "--frames", 8)
    assert "blocks of 3" in line and "clips of 9" in line
    assert not printed(capsys, *begin, "--frames", 9)["finished_before"]
    assert printed(capsys, *begin, "--frames", 9)["finished_before"]
    assert "frames: 9\n" in (trained / "config.yaml").read_text()
    roll = ["rollout", trained, "--data", data, "-o", tmp_path / "sheet.png", "--frames", 4, "--steps", 1]
    line = refused(capsys, *roll, "--history", 8)
    assert "a history of 9 frames" in line
    printed(capsys, *roll, "--history", 6)
    measure = ["evaluate", trained, "--data", data, "--steps", 1, "--samples", 1, "--long-frames", 0]
    printed(capsys, *measure, "--history", 6)
    write = ["export", out, "-o", tmp_path / "step.onnx", "--frames", 20]
    assert printed(capsys, *write)["frames"] == 21  # whole blocks
    assert (tmp_path / "step.onnx.config.yaml").is_file()

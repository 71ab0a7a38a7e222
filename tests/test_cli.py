"""Commands as a user types them. Bad input: exit 2, one line, nothing written."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ACTIONS
from tests.mutations import faults
from v2w_convert.cli import run
from v2w_convert.data import Episode, write_dataset
from v2w_convert.evaluation import action_following
from v2w_convert.plan.read import shipped_plans
from v2w_convert.verification.engine import phases
from v2w_convert.verification.engine.models import open_world
from v2w_convert.world.model import World

PLAN = shipped_plans()["stable-video-diffusion"].read_text()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs `v2w …`, which must be the user's mistake; returns its one line."""
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert code == 2, err
    line = err.strip()
    assert line.startswith("v2w: ")
    assert "\n" not in line
    assert not out
    return line


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8),
            np.eye(ACTIONS, dtype=np.float32)[rng.integers(3, size=24)],
        )
        for _ in range(3)
    ]
    folder = tmp_path / "data"
    write_dataset(episodes, folder, fps=9, action_names=["a", "b", "c"], task="test", robot="test")
    return folder


def test_inspect_plan_convert(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tiny_base), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["plan"] == "stable-video-diffusion"
    assert found["uncovered"] == []
    assert run(["plan", str(tiny_base), "-o", str(tmp_path / "plan.yaml")]) == 0
    arguments = [
        "convert",
        str(tiny_base),
        "-o",
        str(tmp_path / "out"),
        "--action-dim",
        "3",
        "--plan",
        str(tmp_path / "plan.yaml"),
    ]
    assert run([*arguments, "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
    assert run(arguments) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    assert run(arguments) == 0
    assert "already converted" in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}


def test_another_conversion_into_a_finished_one_is_refused(
    tiny_base: Path, tiny_converted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "another plan" in refused(capsys, "convert", tiny_base, "-o", tiny_converted, "--action-dim", 4)
    line = refused(
        capsys, "convert", tiny_base, "-o", tiny_converted, "--action-dim", 3, "--transfer", "shift"
    )
    assert "another plan" in line


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


def test_a_two_dimensional_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from diffusers import UNet2DConditionModel

    UNet2DConditionModel(
        block_out_channels=(8, 8), norm_num_groups=4, cross_attention_dim=8, attention_head_dim=4, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(tmp_path / "flat")  # fmt: skip
    line = refused(capsys, "convert", tmp_path / "flat", "-o", tmp_path / "out", "--action-dim", 3)
    assert "UNet2DConditionModel" in line
    assert [p.name for p in tmp_path.iterdir()] == ["flat"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("period: 32", "periode: 32", "periode: unknown field"),
        ("at: time_embedding", "at: time_embeding", "matches nothing, nearest are"),
        ('  - frame_norm:       {at: "**.temporal_res_block.norm[12]"}\n', "", "frames mix in down_blocks.0"),
    ],
)
def test_faults_of_a_plan(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: str
) -> None:
    assert old in PLAN
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace(old, new))
    line = refused(capsys, "convert", tiny_base, "-o", tmp_path / "out", "--action-dim", 3, "--plan", file)
    assert expected in line
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]


def test_an_output_folder_that_is_not_empty(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert "not empty" in refused(capsys, "convert", tiny_base, "-o", tmp_path, "--action-dim", 3)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    assert "file exists" in refused(capsys, "plan", tiny_base, "-o", tmp_path / "mine.txt")


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


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "nowhere"], ["convert", "--wrong"]])
def test_light_answers_come_without_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from v2w_convert.cli import run; code = run(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules; sys.exit(code)"
    )
    begun = time.process_time()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr
    assert "Traceback" not in done.stderr
    assert time.process_time() - begun < 5


def test_names_in_files_do_not_reach_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Unet\x1b[31m\nred"}))
    line = refused(capsys, "inspect", tmp_path)
    assert "\x1b" not in line


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
        assert run([str(a) for a in arguments]) == 0, capsys.readouterr().err
        assert (tmp_path / name).stat().st_size > 500
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
    capsys.readouterr()
    assert run([str(a) for a in [*arguments, "--classifier-data", data, "--json"]]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
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


def test_a_world_of_blocks_from_end_to_end(
    tiny_base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trained = tmp_path / "out", tmp_path / "trained"
    view = ["--frames-per-block", 3, "--window", 6]
    assert run([str(a) for a in ["convert", tiny_base, "-o", out, "--action-dim", ACTIONS, *view]]) == 0
    assert json.loads((out / "v2w.json").read_text())["plan"]["frames_per_block"] == 3
    assert run(["verify", str(out), "--base", str(tiny_base)]) == 0, capsys.readouterr().err
    begin = ["finetune", out, "--data", data, "-o", trained, "--steps", 1, "--batch", 2]
    line = refused(capsys, *begin, "--frames", 8)
    assert "blocks of 3" in line and "clips of 9" in line
    assert run([str(a) for a in [*begin, "--frames", 9]]) == 0, capsys.readouterr().err
    roll = ["rollout", trained, "--data", data, "-o", tmp_path / "sheet.png", "--frames", 4, "--steps", 1]
    line = refused(capsys, *roll, "--history", 8)
    assert "a history of 9 frames" in line
    assert run([str(a) for a in [*roll, "--history", 6]]) == 0, capsys.readouterr().err
    measure = ["evaluate", trained, "--data", data, "--steps", 1, "--samples", 1, "--long-frames", 0]
    assert run([str(a) for a in [*measure, "--history", 6]]) == 0, capsys.readouterr().err
    write = ["export", out, "-o", tmp_path / "step.onnx", "--frames", 20, "--json"]
    capsys.readouterr()
    assert run([str(a) for a in write]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 21  # whole blocks


CONV = "up_blocks.1.resnets.0.temporal_res_block.conv2"
ATTENTION = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"


@pytest.mark.parametrize("fault", [faults.sees_future, faults.forgets_past])
@pytest.mark.parametrize("site", [CONV, ATTENTION])
def test_verify_names_one_broken_site(
    tiny_base: Path,
    tiny_converted: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    site: str,
    fault: Callable[[Any], None],
) -> None:
    arguments = ["verify", str(tiny_converted), "--base", str(tiny_base), "--json"]

    def opened(*arguments: Any, **options: Any) -> World:
        world = open_world(*arguments, **options)
        fault(world.base.get_submodule(site))
        return world

    monkeypatch.setattr(phases, "open_world", opened)
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    failed = [claim for claim in json.loads(out.splitlines()[-1])["claims"] if not claim["ok"]]
    assert failed
    assert any(claim["where"] == site for claim in failed)
    assert site in err
    rule = "its rule in the plan: - causal_"
    assert any(claim["fix"].startswith(rule) for claim in failed)
    assert rule in err


def test_verify_passes_what_is_whole(tiny_base: Path, tiny_converted: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert run(["verify", str(tiny_converted), "--base", str(tiny_base), "-o", str(report)]) == 0
    names = {file.name for file in report.iterdir()}
    assert {"influence.png", "report.html", "report.json", "summary.md"} <= names


def test_convert_and_verify_at_once(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = [str(a) for a in ["convert", tiny_base, "-o", out, "--action-dim", ACTIONS]]
    assert "--dry-run" in refused(capsys, *arguments, "--verify", "--dry-run")
    assert not out.exists()
    assert run(arguments) == 0
    card = out / "README.md"
    assert "Not verified yet" in card.read_text()
    hashes = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p != card}

    capsys.readouterr()
    assert run([*arguments, "--verify", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["already converted"]
    assert result["verify"]["ok"]
    assert "Not verified yet" not in card.read_text()
    held = f"**All {sum(c['allowed'] is not None for c in result['verify']['claims'])} claims"
    assert held in card.read_text()
    assert hashes == {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p != card}

    def opened(*given: Any, **options: Any) -> Any:
        world = open_world(*given, **options)
        faults.forgets_past(world.base.get_submodule(CONV))
        return world

    monkeypatch.setattr(phases, "open_world", opened)
    capsys.readouterr()
    assert run([*arguments, "--verify", "--json"]) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not result["ok"]
    assert not result["verify"]["ok"]
    assert held not in card.read_text()
    assert f"at `{CONV}`" in card.read_text()
    assert hashes == {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p != card}

    card.write_bytes(b"\xff")
    assert "README.md" in refused(capsys, "verify", out, "--base", tiny_base, "--card")

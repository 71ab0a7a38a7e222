"""`v2w inspect`, `v2w plan` and `v2w convert`."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import printed, refused
from v2w_convert.cli import run
from v2w_convert.plan.read import shipped_plans

PLAN = shipped_plans()["stable-video-diffusion"].read_text()


def test_inspect_plan_convert(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "inspect", tiny_base)
    assert found["plan"] == "stable-video-diffusion"
    assert found["uncovered"] == []
    plan = tmp_path / "plan.yaml"
    assert printed(capsys, "plan", tiny_base, "-o", plan)["output"] == str(plan)
    assert plan.read_text() == PLAN
    out = tmp_path / "out"
    arguments = [tiny_base, "-o", out, "--action-dim", "3", "--plan", plan]
    result = printed(capsys, "convert", *arguments, "--dry-run")
    assert result["dry_run"] and result["files"] and result["changes"]
    assert not out.exists()
    result = printed(capsys, "convert", *arguments)
    assert not result["already_converted"]
    assert result["settings"]["plan"] == str(plan)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert run(["convert", *map(str, arguments)]) == 0
    assert "already converted" in capsys.readouterr().err
    assert printed(capsys, "convert", *arguments)["already_converted"]
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    # The settings that were saved convert again, into the same.
    assert printed(capsys, "convert", tiny_base, "-o", out, "--config", out / "config.yaml")[
        "already_converted"
    ]
    line = refused(capsys, "convert", tiny_base, "-o", out, "--config", out / "config.yaml", "--seed", 1)
    assert "another plan" in line


def test_another_conversion_into_a_finished_one_is_refused(
    tiny_base: Path, tiny_converted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "another plan" in refused(capsys, "convert", tiny_base, "-o", tiny_converted, "--action-dim", 4)
    line = refused(
        capsys, "convert", tiny_base, "-o", tiny_converted, "--action-dim", 3, "--transfer", "shift"
    )
    assert "another plan" in line


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


def test_names_in_files_do_not_reach_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Unet\x1b[31m\nred"}))
    line = refused(capsys, "inspect", tmp_path)
    assert "\x1b" not in line

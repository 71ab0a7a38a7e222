from pathlib import Path

import pytest

from v2w_convert.errors import V2WError
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import parse_plan, read_plan, shipped_plans

GOOD = shipped_plans()["stable-video-diffusion"].read_text()


def fault(tmp_path: Path, text: str) -> str:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(V2WError) as raised:
        read_plan(file)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_every_shipped_plan_survives_being_written_and_read_again() -> None:
    for file in shipped_plans().values():
        plan = read_plan(file)
        assert plan.name == file.stem
        assert parse_plan(plan.model_dump(mode="json"), "test") == plan
        assert isinstance(plan, Plan)


def test_all_faults_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    text = GOOD.replace("kind: edm", "kind: edn").replace("argument: timestep", "argumnt: timestep")
    message = fault(tmp_path, text)
    for line, part in ((22, "noise.kind"), (26, "argumnt: unknown field")):
        assert part in message
        assert f"line {line}:" in message, message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("window: num_frames}", "windo: 3}", "windo: unknown field"),
        ("transfer: masked", "transfer: mask", "transfer"),
        ("- frame_norm:", "- frame_nrom:", "there is no operation 'frame_nrom'"),
        ("v2w: 2", "v2w: 1", "v2w"),
        ("v2w: 2", "v2w: 2\nv2w: 2", "written twice"),
        ("v2w: 2", "v2w: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("transfer: masked", "transfer: masked, points: 2", "goes with transfer: extrapolative"),
        ("channels: out_channels", "channels: [", "not plain YAML"),
    ],
)
def test_a_fault_names_itself(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in fault(tmp_path, GOOD.replace(old, new, 1))


def test_aliases_are_refused(tmp_path: Path) -> None:
    assert "aliases" in fault(tmp_path, "a: &x [1]\nb: [*x, *x]\n")


def test_a_list_is_no_plan(tmp_path: Path) -> None:
    assert "the plan" in fault(tmp_path, "- 1\n")


def test_what_is_no_text_is_no_plan(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(V2WError, match="UTF-8|YAML"):
        read_plan(file)

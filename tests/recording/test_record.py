"""`v2w record`, with Gymnasium itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.commands import printed, refused
from v2w_convert.data import open_dataset, write_dataset
from v2w_convert.recording import record

pytest.importorskip("gymnasium")

DOT = "tests.recording.worlds:Dot-v0"
Capture = pytest.CaptureFixture[str]


def test_frames_and_actions_are_those_of_the_environment(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "set"
    result = printed(capsys, "record", DOT, "-o", out, "--episodes", 4, "--length", 12, "--task", "wander")
    data = open_dataset(out)
    assert (result["episodes"], result["frames"]) == (len(data), sum(data.lengths)) == (4, result["frames"])
    assert (data.fps, result["fps"], result["height"]) == (5.0, 5, 16)
    assert data.action_names == result["actions"] == ["action=-1", "action=0", "action=1"]
    assert data.tasks == [("wander",)] * 4
    ended = 0
    for episode in data.episodes():
        places = episode.frames.mean((1, 2, 3)) / 15
        moved = episode.actions[:-1].argmax(1) - 1
        assert np.abs(np.diff(places) - moved).max() < 0.4  # row i led from frame i to the next one
        assert (episode.actions.sum(1) == 1).all()
        ended += len(episode) < 12
    assert result["ended"] >= ended
    assert json.loads((out / "meta/info.json").read_text())["robot_type"] == DOT


def test_the_same_seed_gives_the_same_and_another_shares_nothing(tmp_path: Path, capsys: Capture) -> None:
    found = []
    for number, seed in enumerate((3, 3, 4)):
        printed(
            capsys, "record", DOT, "-o", tmp_path / str(number), "--seed", seed, "--episodes", 3, "--hold", 3
        )
        found.append(list(open_dataset(tmp_path / str(number)).episodes()))
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(found[0], found[1], strict=True))
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(found[0], found[1], strict=True))
    assert not any(np.array_equal(a.actions, b.actions) for a in found[0] for b in found[2])


@pytest.mark.parametrize(
    ("kind", "names", "kinds"),
    [
        ("discrete", ["action=-1", "action=0", "action=1"], ["discrete"]),
        ("box", ["action_0"], ["continuous"]),
        ("keys", ["action_0", "action_1"], ["multi_binary"]),
        (
            "mixed",
            ["action.move=-1", "action.move=0", "action.move=1", "action.arm.0_0", "action.arm.0_1"],
            ["discrete", "continuous"],
        ),
    ],
)
def test_action_spaces(
    kind: str, names: list[str], kinds: list[str], tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "set"
    printed(capsys, "record", DOT, "-o", out, "--env-arg", f"action={kind}", "--episodes", 2, "--length", 4)
    data = open_dataset(out)
    assert data.action_names == names
    assert [part.kind for part in data.action_space.parts] == kinds


def test_a_policy_and_another_view(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "set"
    view = ["--view", "pixels", "--height", 8, "--width", 12, "--fps", 7]
    result = printed(
        capsys,
        "record",
        DOT,
        "-o",
        out,
        "--policy",
        "tests.recording.worlds:rightwards",
        "--episodes",
        1,
        *view,
    )
    episode = open_dataset(out).first()
    assert (result["fps"], result["ended"], episode.frames.shape[1:]) == (7, 1, (8, 12, 3))
    assert (np.diff(episode.frames.astype(float).mean((1, 2, 3))) > 5).all()
    assert (episode.actions.argmax(1) == 2).all()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["Nowhere-v0"], "Nowhere"),
        (["no_such_module_here:Dot-v0"], "no_such_module_here"),
        ([DOT, "--view", "depth"], "no 'depth' (try: render, observation, pixels, place)"),
        ([DOT, "--view", "place"], "not a picture"),
        ([DOT, "--height", 7, "--width", 8], "even sides"),
        ([DOT, "--env-arg", "action"], "not NAME=VALUE"),
        ([DOT, "--env-arg", "action=text"], "of the space Text"),
        ([DOT, "--env-arg", "fail=true"], "ZeroDivisionError: the engine stopped"),
        ([DOT, "--env-arg", "speed=3"], "unexpected keyword argument 'speed'"),
        ([DOT, "--policy", "tests.recording.worlds"], "not of the form MODULE:FUNCTION"),
        ([DOT, "--policy", "tests.recording.worlds:none"], "has no function none"),
        ([DOT, "--policy", "tests.recording.worlds:no_policy"], "it returned int"),
        (
            [DOT, "--policy", "tests.recording.worlds:too_far"],
            "it returned 2, which is not in Discrete(3, start=-1)",
        ),
        ([DOT, "--policy", "tests.recording.worlds:broken"], "KeyError: 'nothing' ("),
        (
            [DOT, "--policy", "tests.recording.worlds:rightwards", "--hold", 2],
            "--hold is of the policy random",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    arguments: list[Any], found: str, tmp_path: Path, capsys: Capture
) -> None:
    assert found in refused(capsys, "record", *arguments, "-o", tmp_path / "new" / "set")
    assert not [path for path in tmp_path.rglob("*") if path.name != "new"]


def test_what_appears_meanwhile_stays(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def and_another(*given: Any, **named: Any) -> None:
        write_dataset(*given, **named)
        (tmp_path / "set").mkdir()
        (tmp_path / "set/mine").write_text("x")

    monkeypatch.setattr(record, "write_dataset", and_another)
    line = refused(capsys, "record", DOT, "-o", tmp_path / "set", "--episodes", 1, "--length", 4)
    assert "cannot be put in place: Directory not empty (try: a new folder" in line
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "mine"]


def test_nothing_is_written_over(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine").write_text("x")
    assert "something is there" in refused(capsys, "record", DOT, "-o", tmp_path / "set")
    assert (tmp_path / "set/mine").read_text() == "x"

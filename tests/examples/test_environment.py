"""The examples that act in a world model, with reduced numbers."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from examples.doom import plan_to_goal, rank_policies
from examples.doom.rank_policies import POLICIES, movement, spearman

DOOM = Path(plan_to_goal.__file__).parent


def test_policies_and_their_measure() -> None:
    still = np.full((64, 64, 3), 80, np.uint8)
    assert movement(still, 0, still) == 0 and movement(still, 0, still + 3) == 3
    assert len(POLICIES) >= 6
    random = np.random.default_rng(0)
    assert {policy(still, step, random) for policy in POLICIES.values() for step in range(4)} == {0, 1, 2}


def test_rank_correlation_of_the_same_and_of_the_opposite_order() -> None:
    import torch

    mean = torch.arange(6.0)
    same = torch.stack([mean, 2 * mean + 1], -1).expand(1, 3, 6, 2)
    opposite = torch.stack([mean, -mean], -1).expand(1, 3, 6, 2)
    assert spearman(same).tolist() == pytest.approx([1]) and spearman(opposite).tolist() == pytest.approx(
        [-1]
    )


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["dream", "recorded"])
def test_a_plan_is_made(goal: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--goal", goal, "--starts", "2", "--horizon", "3", "--candidates", "6", "--steps", "1"]
    found = plan_to_goal.main(words)
    assert "random minus planned" in capsys.readouterr().out
    assert found["gain"].mean == pytest.approx(found["random"].mean - found["planned"].mean)
    assert found["planned"].mean < found["not moving"].mean


@pytest.mark.slow
def test_policies_are_ranked(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("vizdoom")
    found = rank_policies.main(["--starts", "2", "--length", "2", "--steps", "1"])
    assert -1 <= found.low <= found.mean <= found.high <= 1
    shown = capsys.readouterr().out
    assert all(f"| {name} |" in shown for name in POLICIES)

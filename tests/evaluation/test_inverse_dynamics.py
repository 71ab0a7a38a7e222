import pytest
import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.action_parts import MeasuredPart
from v2w_convert.evaluation.inverse_dynamics import (
    InverseDynamics,
    pairs_of,
    score,
    score_ignoring,
    score_sums,
    train_inverse_dynamics,
)

STEPS = 60
TURN, STRENGTH, LEFT = (
    MeasuredPart("turn", "discrete", 0, 3),
    MeasuredPart("strength", "continuous", 3),
    MeasuredPart("left", "multi_binary", 4),
)
PARTS = [TURN, STRENGTH, LEFT]


def turning(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs (n 2 3 32 32) of a view that turns left, turns right or stands, and the actions (n 5).

    An action is the choice, one-hot; by how many pixels the view moved; and whether to the left.
    """
    generator = torch.Generator().manual_seed(seed)
    lamps = (torch.rand(n, 1, 32, 32, generator=generator) > 0.995).float().expand(-1, 3, -1, -1)
    # Alike everywhere: a seam or a grid would tell the earlier frame from the later one.
    closed = torch.nn.functional.pad(lamps, (2, 2, 2, 2), mode="circular")
    before = torch.nn.functional.max_pool2d(closed, 5, 1)
    choices = torch.randint(3, (n,), generator=generator)
    shifts = torch.tensor([2, -2, 0])[choices]
    after = torch.stack([frame.roll(shift, -1) for frame, shift in zip(before, shifts.tolist(), strict=True)])
    actions = [torch.eye(3)[choices], shifts[:, None].float() + 7, (shifts > 0).float()[:, None]]
    return torch.stack([before, after], 1), torch.cat(actions, 1)


def scores(model: nn.Module, pairs: Tensor, actions: Tensor) -> list[float]:
    sums = score_sums(model, pairs, actions, PARTS, actions.mean(0)).sum(0)
    return [float(score(part, sums[i])) for i, part in enumerate(PARTS)]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return train_inverse_dynamics(*turning(800, seed=0), PARTS, seed=0, steps=STEPS)


def test_it_reads_choices_amounts_and_keys(trained: nn.Module) -> None:
    pairs, actions = turning(200, seed=1)
    found = scores(trained, pairs, actions)
    assert found[0] > 0.95 > 2 * score_ignoring(TURN, actions)
    assert found[1] > 0.8
    assert found[2] > 0.95


def test_it_reads_the_order_of_the_frames(trained: nn.Module) -> None:
    """Played backwards, a turn to the left is one to the right."""
    pairs, actions = turning(200, seed=1)
    mirrored = torch.cat([actions[:, [1, 0, 2]], 14 - actions[:, 3:4], actions[:, 1:2]], 1)
    found = scores(trained, pairs.flip(1), mirrored)
    assert found[0] > 0.95 and found[1] > 0.8 and found[2] > 0.95
    assert scores(trained, pairs.flip(1), actions)[1] < 0


def test_training_is_deterministic_and_leaves_the_global_generator() -> None:
    pairs, actions = turning(80, seed=0)
    before = torch.get_rng_state()
    first = train_inverse_dynamics(pairs, actions, PARTS, seed=0, steps=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)  # the global generator must not be read either
    again = train_inverse_dynamics(pairs, actions, PARTS, seed=0, steps=3)
    other = train_inverse_dynamics(pairs, actions, PARTS, seed=1, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_large_frames_are_judged_by_their_small_form(trained: nn.Module) -> None:
    """Each pixel of a 32 by 32 frame repeated four times has itself as its mean, exactly."""
    pairs, _ = turning(20, seed=1)
    enlarged = pairs.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(trained(enlarged), trained(pairs))
    oblong = InverseDynamics(action_dim=5)(torch.rand(2, 2, 3, 48, 80))
    assert oblong.shape == (2, 5)


class Always(nn.Module):
    """Reads the second choice, 8, and a key that is pressed."""

    def forward(self, pairs: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 0.0, 8.0, 1.0]).expand(len(pairs), 5)


def test_scores_count() -> None:
    rows = [[0, 1, 0, 8, 1], [1, 0, 0, 10, 0], [0, 1, 0, 6, 0], [0, 0, 1, 9, 0.0]]
    actions = torch.tensor(rows).repeat(150, 1)  # 600: more than are judged at once
    found = scores(Always(), torch.zeros(600, 2, 3, 4, 4), actions)
    assert found[0] == 0.5
    amounts = actions[:, 3].double()
    squares = (amounts - 8).square().sum() / (amounts - amounts.mean()).square().sum()
    assert found[1] == pytest.approx(float(1 - squares), abs=1e-12)
    assert found[2] == 0.5  # every pressed key is read, and no released one
    assert score_ignoring(TURN, actions) == 0.5
    assert (score_ignoring(STRENGTH, actions), score_ignoring(LEFT, actions)) == (0.0, 0.5)
    nothing = torch.zeros(4)
    assert all(score(part, nothing).isnan() for part in PARTS)


def test_pairs_are_neighbours() -> None:
    frames = torch.arange(2 * 3).view(2, 3, 1, 1, 1).float()
    assert pairs_of(frames).flatten(1).tolist() == [[0, 1], [1, 2], [3, 4], [4, 5]]


def test_pairs_and_actions_that_do_not_fit_are_refused() -> None:
    pairs, actions = turning(4, seed=0)
    with pytest.raises(V2WError, match="4 pairs of frames but actions of shape \\(3, 5\\)"):
        train_inverse_dynamics(pairs, actions[:3], PARTS, seed=0)
    with pytest.raises(V2WError, match="4 pairs of frames but actions of shape \\(1, 5\\)"):
        score_sums(Always(), pairs, actions[:1], PARTS, actions[0])
    with pytest.raises(V2WError, match="no pair"):
        train_inverse_dynamics(pairs[:0], actions[:0], PARTS, seed=0)

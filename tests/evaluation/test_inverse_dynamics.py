import pytest
import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.inverse_dynamics import InverseDynamics, accuracy, majority, train_classifier

STEPS = 60


def turning(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs (n 2 3 32 32) of a view that turns left (0), turns right (1) or stands (2), and the actions (n,)."""
    generator = torch.Generator().manual_seed(seed)
    lamps = (torch.rand(n, 1, 32, 32, generator=generator) > 0.995).float().expand(-1, 3, -1, -1)
    # Alike everywhere: a seam or a grid would tell the earlier frame from the later one.
    closed = torch.nn.functional.pad(lamps, (2, 2, 2, 2), mode="circular")
    before = torch.nn.functional.max_pool2d(closed, 5, 1)
    actions = torch.randint(3, (n,), generator=generator)
    shifts = torch.tensor([2, -2, 0])[actions].tolist()
    after = torch.stack([frame.roll(shift, -1) for frame, shift in zip(before, shifts, strict=True)])
    return torch.stack([before, after], 1), actions


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return train_classifier(*turning(800, seed=0), classes=3, seed=0, steps=STEPS)


def test_it_learns_which_way_the_view_turned(trained: nn.Module) -> None:
    pairs, actions = turning(200, seed=1)
    assert accuracy(trained, pairs, actions).mean() > 0.95 > 2 * majority(actions)


def test_it_reads_the_order_of_the_frames(trained: nn.Module) -> None:
    """Played backwards, a turn to the left is one to the right."""
    pairs, actions = turning(200, seed=1)
    mirrored = torch.tensor([1, 0, 2])[actions]
    assert accuracy(trained, pairs.flip(1), mirrored).mean() > 0.95


def test_training_is_deterministic_and_leaves_the_global_generator() -> None:
    pairs, actions = turning(80, seed=0)
    before = torch.get_rng_state()
    first = train_classifier(pairs, actions, classes=3, seed=0, steps=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)  # the global generator must not be read either
    again = train_classifier(pairs, actions, classes=3, seed=0, steps=3)
    other = train_classifier(pairs, actions, classes=3, seed=1, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_large_frames_are_judged_by_their_small_form(trained: nn.Module) -> None:
    """Each pixel of a 32 by 32 frame repeated four times has itself as its mean, exactly."""
    pairs, _ = turning(20, seed=1)
    enlarged = pairs.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(trained(enlarged), trained(pairs))
    oblong = InverseDynamics(classes=5)(torch.rand(2, 2, 3, 48, 80))
    assert oblong.shape == (2, 5)


class Always(nn.Module):
    def forward(self, pairs: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 0.0]).expand(len(pairs), 3)


def test_accuracy_and_majority_count() -> None:
    actions = torch.tensor([1, 0, 1, 2, 1]).repeat(120)  # 600: more than are judged at once
    hits = accuracy(Always(), torch.zeros(600, 2, 3, 4, 4), actions)
    assert hits.dtype == torch.float32
    assert torch.equal(hits, torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]).repeat(120))
    assert majority(actions) == 0.6


def test_pairs_and_actions_that_do_not_fit_are_refused() -> None:
    pairs, actions = turning(4, seed=0)
    with pytest.raises(V2WError, match="4 pairs of frames but actions of shape \\(3,\\)"):
        train_classifier(pairs, actions[:3], classes=3, seed=0)
    with pytest.raises(V2WError, match="4 pairs of frames but actions of shape \\(1,\\)"):
        accuracy(Always(), pairs, actions[:1])
    with pytest.raises(V2WError, match="no pair"):
        train_classifier(pairs[:0], actions[:0], classes=3, seed=0)
    with pytest.raises(V2WError, match=r"actions from 0 to 3 \(try: 0 to 2\)"):
        train_classifier(pairs, torch.tensor([0, 1, 2, 3]), classes=3, seed=0)

import torch

from v2w_convert.evaluation.long_horizon import joined_actions, stretches


def test_a_long_rollout_begins_with_its_own_actions() -> None:
    actions = torch.arange(3 * 4).view(3, 4, 1)
    long = joined_actions(actions, torch.tensor([0, 2]), 8)
    assert long[..., 0].tolist() == [[0, 1, 2, 3, 5, 6, 7, 9], [8, 9, 10, 11, 1, 2, 3, 5]]


def test_a_rollout_is_cut_into_equal_stretches() -> None:
    assert stretches(200)[0] == (1, 20) and stretches(200)[-1] == (181, 200)
    assert stretches(3) == [(1, 1), (2, 2), (3, 3)]
    covered = [frame for first, last in stretches(37) for frame in range(first, last + 1)]
    assert covered == list(range(1, 38))

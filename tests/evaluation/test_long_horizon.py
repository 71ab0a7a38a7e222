import torch

from v2w_convert.evaluation.long_horizon import joined_actions


def test_a_long_rollout_begins_with_its_own_actions() -> None:
    actions = torch.arange(3 * 4).view(3, 4, 1)
    long = joined_actions(actions, torch.tensor([0, 2]), 8)
    assert long[..., 0].tolist() == [[0, 1, 2, 3, 5, 6, 7, 9], [8, 9, 10, 11, 1, 2, 3, 5]]

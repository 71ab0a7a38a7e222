import torch

from v2w_convert.evaluation.action_following import other_actions
from v2w_convert.evaluation.clips import EvaluationClips


def test_other_actions_come_after_the_same_history() -> None:
    actions = torch.arange(4 * 5).view(4, 5, 1).float()
    clips = EvaluationClips(torch.zeros(4, 5, 3, 1, 1), actions, torch.tensor([0, 0, 1, 2]))
    other = other_actions(clips, 2)
    assert other[..., 0].tolist() == [
        [0, 1, 12, 13, 14],  # clip 0's history, then the first clip of the next episode
        [5, 6, 12, 13, 14],
        [10, 11, 17, 18, 19],
        [15, 16, 2, 3, 4],  # the last episode's next is the first
    ]

import numpy as np
import pytest
import torch

from v2w_convert.data.episode import Episode
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.clips import EvaluationClips, cut_clips, other_actions, per_episode


def episodes(*lengths: int) -> list[Episode]:
    """Every frame and every action tells its episode and its place."""
    return [
        Episode(
            np.full((t, 8, 8, 3), 0, np.uint8) + np.arange(t, dtype=np.uint8)[:, None, None, None],
            np.stack([np.full(t, e), np.arange(t)], 1).astype(np.float32),
        )
        for e, t in enumerate(lengths)
    ]


def test_clips_lie_side_by_side_and_carry_the_action_that_led_to_each_frame() -> None:
    clips = cut_clips(episodes(12, 4, 5), history=2, horizon=3)
    assert clips.episode.tolist() == [0, 0, 2]
    assert clips.frames[:, :, 0, 0, 0].tolist() == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [0, 1, 2, 3, 4],
    ]
    # The action chosen at frame t - 1 led to frame t; nothing led to an episode's first.
    assert clips.actions[0].tolist() == [[0, 0], [0, 0], [0, 1], [0, 2], [0, 3]]
    assert clips.actions[1].tolist() == [[0, 4], [0, 5], [0, 6], [0, 7], [0, 8]]


def test_means_are_taken_by_episode_first() -> None:
    clips = cut_clips(episodes(10, 5), history=2, horizon=3)
    assert per_episode(torch.tensor([1.0, 3.0, 10.0]), clips).tolist() == [2.0, 10.0]


def test_episodes_that_are_too_short_are_refused_by_length() -> None:
    with pytest.raises(V2WError, match="the longest of 2 episodes has 4"):
        cut_clips(episodes(4, 3), history=2, horizon=3)


def test_pictures_of_some_clips() -> None:
    clips = cut_clips(episodes(12), history=2, horizon=3)
    shown = clips.pictures(torch.tensor([1]))
    assert shown.shape == (1, 5, 3, 8, 8)
    assert (shown[0, :, 2, 7, 7] * 255).tolist() == pytest.approx([5, 6, 7, 8, 9])


def test_other_actions_come_after_the_same_history() -> None:
    actions = torch.arange(4 * 5).view(4, 5, 1).float()
    frames = torch.zeros(4, 5, 1, 1, 3, dtype=torch.uint8)
    other = other_actions(EvaluationClips(frames, actions, torch.tensor([0, 0, 1, 2])), 2)
    assert other[..., 0].tolist() == [
        [0, 1, 12, 13, 14],  # clip 0's history, then the first clip of the next episode
        [5, 6, 12, 13, 14],
        [10, 11, 17, 18, 19],
        [15, 16, 2, 3, 4],  # the last episode's next is the first
    ]
    with pytest.raises(V2WError, match="only one episode is long enough"):
        other_actions(EvaluationClips(frames, actions, torch.zeros(4)), 2)

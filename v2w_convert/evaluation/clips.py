"""Evaluation clips: some frames of history, then the frames to predict."""

from dataclasses import dataclass

import torch
from torch import Tensor

from v2w_convert.data import Dataset, Episode
from v2w_convert.errors import V2WError
from v2w_convert.world.temporal_compression import TemporalCompression, require_actions


@dataclass(frozen=True)
class EvaluationClips:
    """n clips of t video frames: history, and what follows it.

    Attributes:
        frames: (n t height width 3) uint8.
        actions: (n t a) float32; row i led from frame i - 1 to frame i.
        episode: (n,) int64: the episode that each clip comes from.
    """

    frames: Tensor
    actions: Tensor
    episode: Tensor

    def __len__(self) -> int:
        """Clips, n."""
        return len(self.episode)

    def pictures(self, rows: Tensor) -> Tensor:
        """Frames of the clips `rows` (m,): (m t 3 height width) float32 in [0, 1]."""
        return self.frames[rows].permute(0, 1, 4, 2, 3).float() / 255


def read_episodes(
    data: Dataset, action_dim: int, compression: TemporalCompression, count: int | None = None
) -> list[Episode]:
    """Decode the first `count` episodes (None: all).

    Args:
        data: The data set.
        action_dim: Numbers per action that the model takes.
        compression: The autoencoder's temporal compression.
        count: How many episodes.

    Raises:
        V2WError: The data's actions are of another length than the model's, or the data cannot be read.
    """
    advice = "the data that the model was made for, or convert again with"
    require_actions(f"read the data set {data.path}", data.action_dim, action_dim, compression, advice)
    found: list[Episode] = []
    for episode in data.episodes():
        found.append(episode)
        if len(found) == count:
            break
    return found


def cut_clips(episodes: list[Episode], history: int, horizon: int) -> EvaluationClips:
    """Cut as many clips as fit into each episode without overlap.

    Args:
        episodes: The episodes.
        history: Frames of history per clip.
        horizon: Frames after them.

    Raises:
        V2WError: No clip fits.
    """
    t = history + horizon
    frames, actions, origin = [], [], []
    for number, episode in enumerate(episodes):
        arriving = episode.arriving_actions
        for start in range(0, len(episode) - t + 1, t):
            frames.append(torch.from_numpy(episode.frames[start : start + t]))
            actions.append(torch.from_numpy(arriving[start : start + t]))
            origin.append(number)
    if not frames:
        longest = max((len(e) for e in episodes), default=0)
        raise V2WError(
            f"cut clips of {t} frames ({history} of history)",
            f"the longest of {len(episodes)} episodes has {longest}",
            "a shorter history, or longer episodes",
        )
    return EvaluationClips(torch.stack(frames), torch.stack(actions), torch.tensor(origin))


def other_actions(clips: EvaluationClips, history: int) -> Tensor:
    """Actions (n t a): each clip's own in the history, then those of a clip of the next episode.

    Raises:
        V2WError: There is only one episode.
    """
    episodes = clips.episode.unique()
    if len(episodes) < 2:
        raise V2WError(
            "compare with other actions",
            "only one episode is long enough for a clip",
            "a data set with several, or a shorter --history and shorter --horizons",
        )
    following = {int(e): int(episodes[(i + 1) % len(episodes)]) for i, e in enumerate(episodes)}
    chosen = [int((clips.episode == following[int(e)]).nonzero()[0]) for e in clips.episode]
    return torch.cat([clips.actions[:, :history], clips.actions[chosen, history:]], 1)


def per_episode(values: Tensor, clips: EvaluationClips) -> Tensor:
    """Means over each episode's clips: (n …) -> (episodes …). Frames of one episode are not independent."""
    return torch.stack([values[clips.episode == e].mean(0) for e in clips.episode.unique()])

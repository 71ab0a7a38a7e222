"""Evaluation clips: some frames of history, then the frames to predict."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.data import Episode, open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.world.temporal_compression import TemporalCompression, require_actions


@dataclass(frozen=True)
class EvaluationClips:
    """n clips of `history` frames and `horizon` frames after them.

    frames   (n t 3 height width) float32 in [0, 1], t = history + horizon
    actions  (n t a) float32, row t led from frame t - 1 to frame t
    episode  (n,) int64, which episode each comes from
    """

    frames: Tensor
    actions: Tensor
    episode: Tensor


def read_episodes(
    data: Path,
    action_dim: int,
    packing: TemporalCompression,
    episodes: int | None = None,
    camera: str | None = None,
) -> list[Episode]:
    """The first `episodes` episodes (None: all). Raises V2WError if their actions, packed, are not `action_dim` long."""
    mend = "the data that the model was made for, or convert again with"
    found = []
    for episode in open_dataset(data, camera=camera).episodes():
        require_actions(f"read the data set {data}", episode.actions.shape[1], action_dim, packing, mend)
        found.append(episode)
        if episodes is not None and len(found) == episodes:
            break
    return found


def cut_clips(episodes: list[Episode], history: int, horizon: int) -> EvaluationClips:
    """As many clips as fit into each episode side by side. Raises V2WError if none fits."""
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
    pixels = torch.stack(frames).permute(0, 1, 4, 2, 3).float() / 255
    return EvaluationClips(pixels, torch.stack(actions), torch.tensor(origin))


def per_episode(values: Tensor, clips: EvaluationClips) -> Tensor:
    """Means over each episode's clips: (n …) -> (episodes …). Frames of one episode are not independent."""
    return torch.stack([values[clips.episode == e].mean(0) for e in clips.episode.unique()])

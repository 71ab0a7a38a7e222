"""Where a visit can begin: the first frames of recorded episodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.dataset import Dataset
from v2w_convert.data.starts import spread
from v2w_convert.errors import V2WError


@dataclass(frozen=True)
class Start:
    """One of them.

    Attributes:
        episode: Its number in the data set.
        frames: The observed ones (t height width 3) uint8.
        actions: float32 (t a), that led to each of them.
        tasks: As of the episode.
    """

    episode: int
    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    tasks: tuple[str, ...]


def read_starts(data: Dataset, history: int, count: int) -> list[Start]:
    """Read the first frames of some episodes, evenly spaced among those that are long enough.

    Args:
        data: The data set.
        history: Frames to read of each.
        count: How many at most.

    Raises:
        V2WError: No episode is long enough, or one cannot be read.
    """
    chosen = spread(data.lengths, history, count)
    if not chosen:
        longest = max(data.lengths, default=0)
        found = f"the longest episode has {longest} frames, fewer than {history} of history"
        raise V2WError(f"play from the data set {data.path}", found, "a shorter --history")
    starts = []
    for number in chosen:
        episode = next(iter(data.episodes_from(number)))
        frames = np.ascontiguousarray(episode.frames[:history])
        starts.append(Start(number, frames, episode.arriving_actions[:history], episode.tasks))
    return starts

"""All lengths and actions of a data set, checked before the first frame is decoded for a model."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.dataset import Dataset
from v2w_convert.errors import V2WError

MAX_FAULTS = 20  # that are told; more are counted
MAX_TOLD = 5  # episodes that are cut


@dataclass
class ActionRanges:
    """What the actions of a data set are, number by number; of those that lead to a frame, not an episode's last.

    Attributes:
        names: A name for each number of an action.
        low: (a) float64: the smallest.
        high: (a) float64: the largest.
        mean: (a) float64.
        std: (a) float64: exactly 0 of a number that never changes.
        count: Actions.
        faults: What is wrong, episode by episode: rows with NaN or infinite numbers, rows that are missing.
        left_out: Faults that are not listed in `faults`.
    """

    names: list[str]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    count: int = 0
    faults: list[str] = field(default_factory=list)
    left_out: int = 0

    @property
    def constant(self) -> list[str]:
        """Names of the numbers that never change, from which nothing can be learned."""
        return [name for name, low, high in zip(self.names, self.low, self.high, strict=True) if low == high]

    def all_faults(self) -> list[str]:
        """The faults, and how many are not listed."""
        return [*self.faults, *([f"and {self.left_out} more"] if self.left_out else [])]


def read_ranges(data: Dataset) -> ActionRanges:
    """Read all actions, one episode in memory at a time, and no frame where the format reads them by themselves.

    Raises:
        V2WError: The actions cannot be read.
    """
    a, lengths = data.action_dim, data.lengths
    found = ActionRanges(data.action_names, np.full(a, np.inf), np.full(a, -np.inf), np.zeros(a), np.zeros(a))
    squares = np.zeros(
        a
    )  # sum of squared distances from the mean, kept up as Chan et al. do: nothing cancels
    faults: list[str] = []
    episode = -1
    for episode, actions in enumerate(data.actions()):
        wanted = lengths[episode] if episode < len(lengths) else 0
        if actions.shape != (wanted, a):
            faults.append(f"episode {episode} has actions of shape {actions.shape}, not ({wanted}, {a})")
            continue
        finite = np.isfinite(actions)
        if not finite.all():
            row, number = np.argwhere(~finite)[0].tolist()
            bad = int((~finite.all(1)).sum())
            also = f", the first of {bad} such rows" if bad > 1 else ""
            value = f"{found.names[number]!r} is {actions[row, number]}"
            faults.append(f"episode {episode}, row {row}: {value}{also}")
            continue
        leading = actions[:-1].astype(np.float64)
        if not len(leading):
            continue
        count, mean = found.count + len(leading), leading.mean(0)
        apart = mean - found.mean
        squares += ((leading - mean) ** 2).sum(0) + apart**2 * (found.count * len(leading) / count)
        found.mean += apart * (len(leading) / count)
        found.count = count
        np.minimum(found.low, leading.min(0), out=found.low)
        np.maximum(found.high, leading.max(0), out=found.high)
    if episode + 1 != len(lengths):
        faults.append(f"it has actions of {episode + 1} episodes and lengths of {len(lengths)}")
    if found.count:
        found.std = np.where(found.low < found.high, np.sqrt(squares / found.count), 0.0)
    found.faults, found.left_out = faults[:MAX_FAULTS], max(len(faults) - MAX_FAULTS, 0)
    return found


def require_sound(data: Dataset, asked: str) -> ActionRanges:
    """Read all actions and refuse those that a model cannot learn from.

    Args:
        data: The data set.
        asked: What was asked for, for the error.

    Raises:
        V2WError: Some are NaN or infinite, are missing, or no action leads to a frame: all faults, each with its
            episode and row.
    """
    found = read_ranges(data)
    if faults := found.all_faults():
        raise V2WError(asked, faults, "record those episodes again, or leave them out")
    if not found.count:
        raise V2WError(asked, "no episode has two frames, so that no action leads to one", "longer episodes")
    return found


def told(found: ActionRanges) -> list[str]:
    """What to know about actions that are sound."""
    if not found.constant:
        return []
    names = ", ".join(map(repr, found.constant[:10])) + (", …" if len(found.constant) > 10 else "")
    verb = "never changes" if len(found.constant) == 1 else "never change"
    return [f"{len(found.constant)} of the {len(found.names)} numbers of an action {verb}: {names}"]


def left_out(data: Dataset) -> list[str]:
    """What of the data set is not used, in a few lines. Raises as `Dataset.faults`."""
    more = len(data.faults) - MAX_TOLD
    return [*data.faults[:MAX_TOLD], *([f"… and {more} more like these"] if more > 0 else [])]

"""What the numbers of an action are: amounts, choices among some, or keys that are down.

A choice is recorded as an index and given to a model as one number per choice, of which one is 1: an index as an
amount would say that choice 4 is twice choice 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.validation.memory import require_memory
from v2w_convert.errors import V2WError

ActionKind = Literal["continuous", "discrete", "multi_binary"]
MAX_CHOICES = 10_000


@dataclass(frozen=True)
class ActionPart:
    """Numbers of an action that belong together.

    Attributes:
        name: What it is called, such as "action" or "state".
        kind: "continuous": amounts; "discrete": one choice among `size`; "multi_binary": keys, each 0 or 1.
        size: How many numbers it takes in the action vector of a model.
        labels: A name for each of these numbers: of each amount, choice or key.

    Raises:
        V2WError: There is not one label for each of 1 or more numbers.
    """

    name: str
    kind: ActionKind
    size: int
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.size < 1 or len(self.labels) != self.size:
            found = f"{len(self.labels)} labels for {self.size} numbers"
            raise V2WError(f"describe the action {self.name!r}", found, "one for each of 1 or more")

    @property
    def columns(self) -> int:
        """How many numbers it takes as it is recorded: a choice takes one, its index."""
        return 1 if self.kind == "discrete" else self.size


@dataclass(frozen=True)
class ActionSpace:
    """All parts of an action, in the order in which their numbers follow one another."""

    parts: tuple[ActionPart, ...]

    @classmethod
    def continuous(cls, names: Sequence[str]) -> Self:
        """One part of amounts with these names."""
        return cls((ActionPart("action", "continuous", len(names), tuple(names)),))

    @property
    def dim(self) -> int:
        """Numbers of an action vector, a."""
        return sum(part.size for part in self.parts)

    @property
    def names(self) -> list[str]:
        """A name for each number of an action vector; of a choice, "action=left"."""
        return [
            f"{part.name}={label}" if part.kind == "discrete" else label
            for part in self.parts
            for label in part.labels
        ]

    @property
    def slices(self) -> list[tuple[ActionPart, slice]]:
        """Each part, and where its numbers lie in an action vector."""
        ends = np.cumsum([part.size for part in self.parts]).tolist()
        return [(part, slice(end - part.size, end)) for part, end in zip(self.parts, ends, strict=True)]

    def encode(self, recorded: NDArray[Any], asked: str) -> NDArray[np.float32]:
        """Action vectors (t, a) of what was recorded.

        Args:
            recorded: Numbers (t, r): of each part its `columns`, one part after the other.
            asked: What is being done, for the error message.

        Returns:
            float32, with choices as `one_hot`.

        Raises:
            V2WError: There are not r numbers, a choice is none of those there are, or a key is neither 0 nor 1.
        """
        wanted = sum(part.columns for part in self.parts)
        if recorded.ndim != 2 or recorded.shape[1] != wanted:
            raise V2WError(asked, f"actions of shape {recorded.shape}, not (frames, {wanted})")
        require_memory(4 * len(recorded) * self.dim, asked, "its actions")
        made, at = [], 0
        for part in self.parts:
            values = recorded[:, at : at + part.columns]
            at += part.columns
            if part.kind == "discrete":
                made.append(one_hot(values[:, 0], part.size, asked, part.name))
                continue
            if part.kind == "multi_binary" and not (good := (values == 0) | (values == 1)).all():
                row, key = np.argwhere(~good)[0]
                raise V2WError(
                    asked,
                    f"row {row} of {part.name!r}: {values[row, key]:.10g}, not a key that is 0 or 1",
                    "--action-kind continuous",
                )
            made.append(values.astype(np.float32))
        return np.concatenate(made, axis=1)


def recognised(space: ActionSpace, actions: NDArray[np.floating[Any]]) -> ActionSpace:
    """Parts that the data declares as amounts, as what they are: a choice where every row is one-hot, keys where all
    numbers are 0 or 1.

    Args:
        space: What the data declares.
        actions: All its action vectors (n a).
    """
    parts = []
    for part, where in space.slices:
        own, kind = actions[:, where], part.kind
        if kind == "continuous" and len(own) and bool(((own == 0) | (own == 1)).all()):
            one_hot_rows = part.size > 1 and bool((own.sum(1) == 1).all())
            kind = "discrete" if one_hot_rows else "multi_binary"
        parts.append(ActionPart(part.name, kind, part.size, part.labels))
    return ActionSpace(tuple(parts))


def one_hot(indices: NDArray[Any], choices: int, asked: str, name: str = "action") -> NDArray[np.float32]:
    """float32 (t, choices) of indices (t): 1 at the index, 0 elsewhere.

    Raises:
        V2WError: An index is not a whole number from 0 to choices - 1; with the row.
    """
    good = (indices >= 0) & (indices < choices) & (indices == np.floor(indices))
    if not good.all():
        row = int(np.argmin(good))
        found = f"row {row} of {name!r}: {indices[row]:.10g}, not a choice from 0 to {choices - 1}"
        raise V2WError(asked, found, "--action-kind continuous, or actions that are recorded again")
    made = np.zeros((len(indices), choices), np.float32)
    made[np.arange(len(indices)), indices.astype(np.int64)] = 1
    return made

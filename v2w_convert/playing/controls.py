"""The numbers of an action as controls of a page: what they are called, which keys press them, how far they go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionPart, ActionSpace, recognised
from v2w_convert.data.dataset import Dataset
from v2w_convert.errors import V2WError

Numbers = NDArray[np.float32]

# Words in a name -> keys, the first that is free, as `KeyboardEvent.code` names them.
WORDS = {
    ("turn_left", "left"): ("ArrowLeft", "KeyA"),
    ("turn_right", "right"): ("ArrowRight", "KeyD"),
    ("forward", "up", "north", "gas", "accelerate"): ("ArrowUp", "KeyW"),
    ("backward", "back", "down", "south", "brake"): ("ArrowDown", "KeyS"),
    ("attack", "fire", "shoot", "jump", "use", "grip", "open"): ("Space", "Enter"),
    ("run", "speed", "crouch"): ("ShiftLeft", "KeyC"),
}
# P, R, B and N are the page's own.
OTHERS = (*(f"Digit{i}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)), *(f"Key{x}" for x in "QEZXCVFGTYUIO"))
RESTING = ("noop", "no_op", "none", "idle", "stay", "still", "wait", "nothing")
MAX_EPISODES = 200  # whose actions are looked at


@dataclass(frozen=True)
class Controls:
    """What a visitor can do.

    Attributes:
        parts: Of an action, as it is recorded once.
        repeats: How often it is repeated in the model's action of one video frame (a stride).
        low: The least that was recorded of each number (a,) of the parts.
        high: The largest.
    """

    parts: ActionSpace
    repeats: int
    low: Numbers
    high: Numbers

    def action(self, values: Sequence[float]) -> Numbers:
        """The model's action (a,) for one video frame.

        Args:
            values: As recorded: of each part in turn the index of a choice, keys as 0 or 1, or amounts.

        Raises:
            V2WError: They are no action.
        """
        asked = "act"
        made = self.parts.encode(np.asarray([values], np.float64), asked)[0]
        for part, where in self.parts.slices:
            own = made[where]
            if part.kind == "continuous" and not ((own >= self.low[where]) & (own <= self.high[where])).all():
                raise V2WError(asked, f"{part.name} is beyond what was recorded")
        return np.tile(made, self.repeats)

    def resting(self) -> list[float]:
        """The action, as recorded, of a visitor who does nothing."""
        values: list[float] = []
        for part, where in self.parts.slices:
            if part.kind == "discrete":
                values.append(float(_resting(part) or 0))
            elif part.kind == "multi_binary":
                values += [0.0] * part.size
            else:
                values += np.clip(0, self.low[where], self.high[where]).tolist()
        return values

    @property
    def rests(self) -> bool:
        """Whether there is an action that does nothing."""
        return all(part.kind != "discrete" or _resting(part) is not None for part in self.parts.parts)

    def described(self) -> list[dict[str, object]]:
        """The parts as the page is told of them."""
        keys = iter(keys_of(self.parts))
        return [
            {
                "name": part.name,
                "kind": part.kind,
                "labels": list(part.labels),
                "keys": [next(keys) for _ in part.labels],
                "low": self.low[where].tolist(),
                "high": self.high[where].tolist(),
            }
            for part, where in self.parts.slices
        ]


def controls_of(data: Dataset) -> Controls:
    """The controls of a data set's actions. What it declares as amounts, and is only ever 0 or 1, is keys.

    Raises:
        V2WError: Its actions cannot be read.
    """
    repeats = int(getattr(data, "stride", 1))
    space = data.action_space
    parts = ActionSpace(space.parts[: len(space.parts) // repeats])
    taken = [actions[:, : parts.dim] for actions in islice(data.actions(), MAX_EPISODES)]
    own = np.concatenate(taken)
    own = own[np.isfinite(own).all(1)]
    if not len(own):
        raise V2WError(f"play from the data set {data.path}", "no action of it is finite", "v2w data DATA")
    return Controls(recognised(parts, own), repeats, own.min(0), own.max(0))


def keys_of(parts: ActionSpace) -> list[str | None]:
    """A key for each number of an action, by its name; None for amounts, and where there are no more keys."""
    taken: set[str] = set()
    numbers = [(part.kind, label.lower()) for part in parts.parts for label in part.labels]
    found: list[str | None] = [None] * len(numbers)
    for named in (True, False):  # those whose names say which key come first
        for i, (kind, label) in enumerate(numbers):
            if kind != "continuous" and found[i] is None:
                candidates = _named(label) if named else OTHERS
                found[i] = next((key for key in candidates if key not in taken), None)
                taken |= {found[i] or ""}
    return found


def _resting(part: ActionPart) -> int | None:
    """The choice that does nothing, by its name."""
    return next((i for i, label in enumerate(part.labels) if label.lower() in RESTING), None)


def _named(label: str) -> Iterator[str]:
    words = set(label.replace("-", "_").replace(" ", "_").split("_")) | {label}
    for names, keys in WORDS.items():
        if words & set(names):
            yield from keys

"""The parts of an action as a space of Gymnasium, and an action of it as the numbers that a model takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.errors import V2WError

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Actions:
    """What actions are.

    Attributes:
        parts: What the data says of them.
        low: The least of each number (a,) in the data.
        high: The largest.
        space: One choice is Discrete, several are MultiDiscrete; keys are MultiBinary; amounts are a Box of the data's
            range; parts of several kinds are a Dict by their names.
    """

    parts: ActionSpace
    low: Numbers
    high: Numbers
    space: spaces.Space[Any]

    @property
    def meanings(self) -> list[str]:
        """A name for each choice of a single Discrete space, else for each number."""
        first = self.parts.parts[0]
        return list(first.labels) if isinstance(self.space, spaces.Discrete) else self.parts.names

    def vector(self, action: Any) -> Numbers:
        """The numbers (a,) of an action of the space.

        Raises:
            V2WError: It is not in the space.
        """
        action = _cast(self.space, action)
        if not _contains(self.space, action):
            raise V2WError("take a step", f"the action {action!s:.200} is not in {self.space!s:.300}")
        if isinstance(self.space, spaces.Dict):
            rows = [np.ravel(action[part.name]) for part in self.parts.parts]
        else:
            rows = [np.ravel(action)]
        recorded = np.concatenate(rows).astype(np.float64)[None]
        vectors = self.parts.encode(recorded, "take a step")
        return vectors.reshape(-1)


def actions_of(parts: ActionSpace, low: Numbers, high: Numbers) -> Actions:
    """The actions with these parts, and the range of each of their numbers (a,)."""
    kinds = {part.kind for part in parts.parts}
    if len(kinds) == 1:
        return Actions(parts, low, high, _space(parts.parts, low, high))
    names = [part.name for part in parts.parts]
    if len(set(names)) < len(names):  # which no format of data gives
        named = [ActionPart(f"{i}.{x.name}", x.kind, x.size, x.labels) for i, x in enumerate(parts.parts)]
        parts = ActionSpace(tuple(named))
    inner = {part.name: _space((part,), low[where], high[where]) for part, where in parts.slices}
    return Actions(parts, low, high, spaces.Dict(inner))


def _space(parts: tuple[ActionPart, ...], low: Numbers, high: Numbers) -> spaces.Space[Any]:
    """The space of parts of one kind."""
    size = sum(part.size for part in parts)
    if parts[0].kind == "multi_binary":
        return spaces.MultiBinary(size)
    if parts[0].kind == "continuous":
        return spaces.Box(low, high, dtype=np.float32)
    return spaces.Discrete(size) if len(parts) == 1 else spaces.MultiDiscrete([part.size for part in parts])


def _cast(space: spaces.Space[Any], action: Any) -> Any:
    """An action in the space's dtype, where nothing is lost: gymnasium takes no float64 for a Box of float32."""
    if isinstance(space, spaces.Dict) and isinstance(action, dict):
        return {
            key: _cast(space[key], value) if key in space.keys() else value for key, value in action.items()
        }
    if isinstance(space, spaces.Discrete | spaces.Dict) or space.dtype is None:
        return action
    try:
        whole = np.asarray(action)
        with np.errstate(invalid="ignore"):  # NaN as a whole number
            cast = whole.astype(space.dtype)
        same = np.issubdtype(space.dtype, np.floating) or bool((cast == whole).all())
    except (TypeError, ValueError, OverflowError):
        return action
    return cast if same and whole.dtype.kind in "biuf" else action


def _contains(space: spaces.Space[Any], action: Any) -> bool:
    if isinstance(space, spaces.Dict):
        keys = set(space.spaces)
        return (
            isinstance(action, dict)
            and set(action) == keys
            and all(_contains(space[k], action[k]) for k in keys)
        )
    if not isinstance(space, spaces.Discrete) and not isinstance(action, np.ndarray):
        return False  # `_cast` could not make an array of it
    return bool(space.contains(action))

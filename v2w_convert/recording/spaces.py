"""Spaces of Gymnasium as numbers: what an action space's parts are, and one action as a row of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.actions import MAX_CHOICES, ActionPart, ActionSpace
from v2w_convert.errors import V2WError

MAX_NUMBERS = 10_000
Rows = Callable[[Any], list[NDArray[Any]]]


def describe(
    space: Any, meanings: Sequence[str] | None = None
) -> tuple[ActionSpace, Callable[[Any], NDArray[np.float64]]]:
    """The parts of an action space (Discrete, MultiDiscrete, MultiBinary, Box, and Tuple and Dict of them).

    Args:
        space: Of gymnasium.spaces.
        meanings: Names of the choices of a single Discrete space, where the environment has them.

    Returns:
        The parts, and a function that makes a row (r) for `ActionSpace.encode` of an action of this space.

    Raises:
        V2WError: It is another kind of space, or of too many numbers.
    """
    parts, rows = _describe(space, "action", meanings)
    if (count := sum(part.size for part in parts)) > MAX_NUMBERS:
        raise V2WError("record actions", f"an action has {count} numbers, over the limit of {MAX_NUMBERS}")
    return ActionSpace(tuple(parts)), lambda action: np.concatenate(rows(action)).astype(np.float64)


def _describe(space: Any, name: str, meanings: Sequence[str] | None) -> tuple[list[ActionPart], Rows]:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        count, start = int(space.n), int(space.start)
        labels = [str(one) for one in meanings or ()]
        if len(labels) != count or len(set(labels)) != count:
            labels = [str(start + i) for i in range(_few(count))]
        return [ActionPart(name, "discrete", count, tuple(labels))], lambda action: [
            np.array([int(action) - start])
        ]
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = np.ravel(space.nvec).tolist(), np.ravel(space.start)
        parts = [
            ActionPart(
                f"{name}.{i}", "discrete", count, tuple(str(starts[i] + k) for k in range(_few(count)))
            )
            for i, count in enumerate(counts)
        ]
        return parts, lambda action: [np.ravel(action) - starts]
    if isinstance(space, spaces.MultiBinary):
        return [_numbers(name, "multi_binary", space.shape)], lambda action: [np.ravel(action)]
    if isinstance(space, spaces.Box):
        return [_numbers(name, "continuous", space.shape)], lambda action: [np.ravel(action)]
    if isinstance(space, spaces.Tuple | spaces.Dict):
        inner: Any = space.spaces
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        described = [_describe(inner[key], f"{name}.{_plain(key)}", None) for key in keys]
        return [part for some, _ in described for part in some], lambda action: [
            row for key, (_, rows) in zip(keys, described, strict=True) for row in rows(action[key])
        ]
    raise V2WError(
        "record actions",
        f"{name} is of the space {type(space).__name__}",
        "Discrete, MultiDiscrete, MultiBinary, Box, Tuple or Dict: wrap the environment",
    )


def _numbers(name: str, kind: Any, shape: tuple[int, ...]) -> ActionPart:
    size = _few(int(np.prod(shape)))
    return ActionPart(name, kind, size, tuple(f"{name}_{i}" for i in range(size)))


def _plain(key: Any) -> str:
    """A key as part of a column's name."""
    if not (text := str(key)).isprintable() or "/" in text or "," in text or not text:
        raise V2WError(
            "record actions", f"a part is called {text!r:.100}", "a name without slashes and commas"
        )
    return text


def _few(count: int) -> int:
    if count > MAX_CHOICES:
        raise V2WError("record actions", f"{count} numbers or choices, over the limit of {MAX_CHOICES}")
    return count

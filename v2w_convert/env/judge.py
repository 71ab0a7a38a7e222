"""What a user says of a step: its reward, and whether it ends the episode."""

import math
from collections.abc import Callable
from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.recording.foreign import foreign, load_function

Judge = Callable[[Any, Any, Any], Any]
"""Of the observation before, the action, and the observation after it."""

EXAMPLE = "a function of (before, action, after), or 'MODULE:FUNCTION'"


class Judges:
    """The functions of an environment.

    Attributes:
        reward: Returns a number; None: every reward is 0.
        terminated: Returns whether the episode has ended; None: it never does.
    """

    def __init__(self, reward: Judge | str | None, terminated: Judge | str | None):
        """Take functions, or names of functions, which are imported.

        Raises:
            V2WError: They are neither.
        """
        self.reward, self.terminated = _load(reward, "reward"), _load(terminated, "terminated")

    def __call__(self, before: Any, action: Any, after: Any) -> tuple[float, bool]:
        """The reward of a step, and whether it ended the episode.

        Raises:
            V2WError: A function fails, or returns something else.
        """
        reward, ended = 0.0, False
        if self.reward is not None:
            with foreign("call the reward"):
                found = self.reward(before, action, after)
                reward = float(found)
            if not math.isfinite(reward):
                raise V2WError("call the reward", f"it returned {reward}", "a finite number")
        if self.terminated is not None:
            with foreign("call terminated"):
                ended = bool(self.terminated(before, action, after))
        return reward, ended


def _load(given: Judge | str | None, name: str) -> Judge | None:
    asked = f"use the {name} {given!r:.200}"
    if isinstance(given, str):
        return load_function(given, asked, EXAMPLE)
    if given is not None and not callable(given):
        raise V2WError(asked, "it is no function", EXAMPLE)
    return given

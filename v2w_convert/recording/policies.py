"""Who acts while an environment is recorded."""

from collections.abc import Callable
from typing import Any

import numpy as np

from v2w_convert.errors import V2WError
from v2w_convert.recording.foreign import foreign, load_function

RANDOM = "random"
Policy = Callable[[Any], Any]
MakePolicy = Callable[[Any, int], Policy]


def load_policy(name: str, hold: int) -> MakePolicy:
    """What makes a policy for each episode of an environment and a seed.

    Args:
        name: "random", or MODULE:FUNCTION, which is imported; the present folder is searched first.
        hold: Of "random": each action is kept for 1 to so many steps.

    Raises:
        V2WError: There is no such module or function, or importing it fails.
    """
    if name == RANDOM:
        return lambda env, seed: _Random(env.action_space, seed, hold)
    asked = f"load the policy {name}"
    made = load_function(name, asked, f"{RANDOM}, or my_policies:my_policy")

    def make(env: Any, seed: int) -> Policy:
        with foreign(asked):
            policy: Policy = made(env, seed)
        if not callable(policy):
            found = f"it returned {type(policy).__name__} for an environment and a seed"
            raise V2WError(asked, found, "a function of an observation that returns an action")
        return policy

    return make


class _Random:
    """Actions of the space at random, each kept for a while."""

    def __init__(self, space: Any, seed: int, hold: int):
        self.space, self.hold, self.left = space, hold, 0
        self.random = np.random.default_rng(seed)
        space.seed(int(self.random.integers(2**31)))
        self.action: Any = None

    def __call__(self, observation: Any) -> Any:
        if self.left == 0:
            self.action, self.left = self.space.sample(), int(self.random.integers(1, self.hold + 1))
        self.left -= 1
        return self.action

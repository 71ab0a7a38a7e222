"""Small environments. `gymnasium.make("tests.recording.worlds:Dot-v0")` registers them by importing this module."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register

SIZE = 16


class Dot(gymnasium.Env[Any, Any]):
    """A dot that goes left or right, and ends at the wall. The brightness is the dot's place."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, render_mode: str, action: str = "discrete", fail: bool = False):
        self.render_mode, self.fail = render_mode, fail
        self.action_space = {
            "discrete": spaces.Discrete(3, start=-1),
            "box": spaces.Box(-1, 1, (1,), np.float32),
            "keys": spaces.MultiBinary(2),
            "mixed": spaces.Dict(
                move=spaces.Discrete(3, start=-1), arm=spaces.Tuple([spaces.Box(-1, 1, (2,), np.float32)])
            ),
            "text": spaces.Text(3),
        }[action]
        self.observation_space = spaces.Dict(
            pixels=spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8), place=spaces.Box(0, SIZE, (1,))
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = float(self.np_random.integers(4, SIZE - 4))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.fail:
            raise ZeroDivisionError("the engine stopped")
        if isinstance(action, dict):
            action = action["move"]
        self.place += float(np.ravel(action)[0])
        return self._seen(), 0.0, not 0 < self.place < SIZE - 1, False, {}

    def render(self) -> Any:
        return np.full((SIZE, SIZE, 3), round(self.place * 15), np.uint8)

    def _seen(self) -> dict[str, Any]:
        return {"pixels": self.render() // 2, "place": np.array([self.place], np.float32)}


register("Dot-v0", Dot)


def rightwards(env: Any, seed: int) -> Any:
    return lambda observation: 1


def too_far(env: Any, seed: int) -> Any:
    return lambda observation: 2


def broken(env: Any, seed: int) -> Any:
    return lambda observation: observation["nothing"]


def no_policy(env: Any, seed: int) -> int:
    return seed

"""Many rollouts of one world model as a `gymnasium.vector.VectorEnv`: a pass of the model serves all that are as far."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from v2w_convert.env.judge import Judge, Judges
from v2w_convert.env.opened import open_world
from v2w_convert.env.options import ASKED, chosen_start, noise_seed, read_options
from v2w_convert.env.settings import read_settings
from v2w_convert.env.starts import Starts
from v2w_convert.env.streams import Branch, Streams
from v2w_convert.env.window import require_mode
from v2w_convert.errors import V2WError

MODES = ["rgb_array"]
MAX_ENVS = 4096

Step = tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class WorldVectorEnv(VectorEnv[NDArray[Any], Any, NDArray[Any]]):
    """n environments of one world model, which is loaded once and generates their frames in batches.

    Each has noise and beginnings of its own: with the seed s, environment i does what `WorldEnv` does with the seed s + i, up to
    the rounding of the model, whose numbers may differ in their last digits with the size of a batch. The same number of
    environments, seeds and actions give the same frames, bit for bit.

    Attributes:
        single_action_space: As of `WorldEnv`; so is `single_observation_space`.
        num_envs: n.
    """

    metadata: dict[str, Any] = {"render_modes": MODES, "render_fps": 10}

    def __init__(
        self,
        world: str | Path,
        *,
        num_envs: int = 1,
        starts: Starts = None,
        reward: Judge | str | None = None,
        terminated: Judge | str | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **settings: Any,
    ):
        """Open a world model.

        Args:
            world: As for `WorldEnv`, as are all other arguments that are not named here.
            num_envs: n, 1 to 4096.
            starts: As for `WorldEnv`.
            reward: Called for each environment, with what `WorldEnv` gives it.
            terminated: The same.
            render_mode: "rgb_array".
            autoreset_mode: Gymnasium's: when an environment that has ended begins again.
            settings: As for `WorldEnv`.

        Raises:
            V2WError: As `WorldEnv`.
        """
        super().__init__()
        asked = f"make environments of {world}"
        require_mode(render_mode, MODES)
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or not 1 <= num_envs <= MAX_ENVS:
            raise V2WError(asked, f"num_envs is {num_envs!r:.80}", f"1 to {MAX_ENVS}")
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            known = ", ".join(mode.value for mode in AutoresetMode)
            raise V2WError(asked, f"autoreset_mode is {autoreset_mode!r:.80}", known) from None
        self._judges = Judges(reward, terminated)
        self._opened = open_world(Path(world), starts, read_settings(settings, asked))
        self.num_envs, self.render_mode = num_envs, render_mode
        fps = self._opened.fps / self._opened.frames_per_step
        self.metadata = {**self.metadata, "render_fps": fps, "autoreset_mode": self.autoreset_mode}
        self.single_action_space = self._opened.actions.space
        self.single_observation_space = self._opened.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._streams = Streams(self._opened, num_envs)
        self._randoms: list[np.random.Generator | None] = [None] * num_envs
        self._elapsed = np.zeros(num_envs, np.int64)
        self._ended = np.ones(num_envs, bool)  # nothing has begun

    def get_action_meanings(self) -> list[str]:
        """A name for each choice, or for each number of an action."""
        return self._opened.actions.meanings

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: s, for the seeds s, s + 1, …; or one for each environment, None to go on with the numbers that there are.
            options: `start`, the number of a beginning, for all or for each; `reset_mask` (n,) bool, which of them begin.

        Returns:
            The observations, and `start` for each.

        Raises:
            V2WError: An option or the number of seeds is wrong.
        """
        given = read_options(options, {"start", "reset_mask"})
        n = self.num_envs
        mask = np.asarray(given.get("reset_mask", np.ones(n, bool)))
        if mask.shape != (n,) or mask.dtype != np.bool_ or not mask.any():
            raise V2WError(ASKED, "reset_mask names no environment", f"({n},) of bool, one of them true")
        if (self._ended & ~mask).any() and not self._streams.groups:
            raise V2WError(ASKED, "some have not begun yet", "reset() without a mask first")
        seeds = [None if seed is None else seed + i for i in range(n)] if _is_one(seed) else list(seed)  # type: ignore[operator, arg-type]
        starts = given.get("start")
        starts = [starts] * n if starts is None or np.ndim(starts) == 0 else list(starts)
        if len(seeds) != n or len(starts) != n:
            raise V2WError(ASKED, f"{len(seeds)} seeds and {len(starts)} starts", f"one, or {n}")
        rows = np.flatnonzero(mask).tolist()
        chosen = self._begin(rows, seeds, starts)
        infos: dict[str, Any] = {}
        for row, start in zip(rows, chosen, strict=True):
            infos = self._add_info(infos, {"start": start}, row)
        return self._streams.observations(), infos

    def step(self, actions: Any) -> Step:
        """Generate what comes after an action for each environment.

        An environment that has ended begins again as `autoreset_mode` says; with "NextStep" its action is ignored then.

        Args:
            actions: In `action_space`.

        Returns:
            As Gymnasium has it, for all.

        Raises:
            V2WError: As `WorldEnv.step`; or one has ended, and begins again by `reset` only.
        """
        n = self.num_envs
        if not self._streams.groups:
            raise V2WError("take a step", "no episode has begun", "reset() first")
        given = self._each(actions)
        again = self._ended.copy()
        if again.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise V2WError(
                "take a step",
                f"environment {int(np.argmax(again))} has ended",
                "reset(options={'reset_mask': …})",
            )
        zero = np.zeros(self._opened.actions.parts.dim, np.float32)
        vectors = np.stack(
            [zero if again[row] else self._opened.actions.vector(given[row]) for row in range(n)]
        )
        before = self._streams.observations()
        rows = np.flatnonzero(again).tolist()
        infos: dict[str, Any] = {}
        self._streams.step(vectors, without=rows)
        self._elapsed[~again] += 1
        for row, start in zip(rows, self._begin(rows, [None] * n, [None] * n), strict=True):
            infos = self._add_info(infos, {"start": start}, row)
        after = self._streams.observations()
        rewards, terminated, truncated = np.zeros(n), np.zeros(n, bool), np.zeros(n, bool)
        for row in np.flatnonzero(~again).tolist():
            rewards[row], terminated[row] = self._judges(before[row], given[row], after[row].copy())
        if (limit := self._opened.settings.max_episode_steps) is not None:
            truncated = ~again & (self._elapsed >= limit)
        self._ended = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():
            rows = np.flatnonzero(self._ended).tolist()
            for row in rows:
                infos = self._add_info(infos, {"final_obs": after[row].copy(), "final_info": {}}, row)
            for row, start in zip(rows, self._begin(rows, [None] * n, [None] * n), strict=True):
                infos = self._add_info(infos, {"start": start}, row)
            after = self._streams.observations()
        return after, rewards, terminated, truncated, infos

    def branch(self, index: int) -> Branch:
        """This moment of an environment, to go on from any number of times, here or in another of the same model."""
        self._require_index(index)
        return self._streams.branch(index, int(self._elapsed[index]))

    def restore(
        self, branches: Branch | Sequence[Branch], *, seed: int | Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Go on from moments.

        Args:
            branches: One for each environment, or one for all.
            seed: s, for the noise to come of the seeds s, s + 1, …; or one for each; None: the noise that would have come.
                Environments that go on from one moment with the same noise see the same after the same actions.

        Returns:
            The observations.

        Raises:
            V2WError: There are not n, or one is of another model.
        """
        n = self.num_envs
        each = [branches] * n if isinstance(branches, Branch) else list(branches)
        seeds = (
            None if seed is None else [seed + i for i in range(n)] if isinstance(seed, int) else list(seed)
        )
        if len(each) != n or (seeds is not None and len(seeds) != n):
            raise V2WError(
                "restore branches", f"{len(each)} of them for {n} environments", "one, or one for each"
            )
        self._streams.restore(range(n), each, seeds)
        self._elapsed = np.array([branch.elapsed for branch in each])
        self._ended = np.zeros(n, bool)
        return self._streams.observations()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The newest picture (height width 3) of each, in the mode "rgb_array"."""
        return tuple(self._streams.rendered()) if self.render_mode == "rgb_array" else None

    def _begin(self, rows: Sequence[int], seeds: Sequence[int | None], starts: Sequence[Any]) -> list[int]:
        """Begin episodes of some environments; with which beginnings."""
        for row in rows:
            seed = seeds[row]
            if seed is not None or self._randoms[row] is None:
                self._randoms[row] = np_random(None if seed is None else int(seed))[0]
        randoms = [random for row in rows if (random := self._randoms[row]) is not None]
        chosen = [
            chosen_start(self._opened, random, starts[row]) for row, random in zip(rows, randoms, strict=True)
        ]
        self._streams.begin(rows, chosen, [noise_seed(random) for random in randoms])
        self._elapsed[list(rows)] = 0
        self._ended[list(rows)] = False
        return chosen

    def _each(self, actions: Any) -> list[Any]:
        """The actions, one for each environment."""
        try:
            found = [deepcopy(action) for action in iterate(self.action_space, actions)]
        except (TypeError, ValueError, KeyError, IndexError):
            found = []
        if len(found) != self.num_envs:
            raise V2WError("take a step", f"not {self.num_envs} actions", f"of {self.action_space!s:.300}")
        return found

    def _require_index(self, index: int) -> None:
        if not 0 <= index < self.num_envs:
            raise V2WError("branch", f"no environment {index}", f"0 to {self.num_envs - 1}")


def _is_one(seed: Any) -> bool:
    return seed is None or isinstance(seed, int | np.integer)

"""One world model as a `gymnasium.Env`."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from v2w_convert.env.judge import Judge, Judges
from v2w_convert.env.opened import open_world
from v2w_convert.env.options import chosen_start, noise_seed, read_options
from v2w_convert.env.settings import read_settings
from v2w_convert.env.starts import Starts
from v2w_convert.env.streams import Branch, Streams
from v2w_convert.env.window import MODES, Window, require_mode


class WorldEnv(gymnasium.Env[NDArray[Any], Any]):
    """Episodes that a world model generates, one step a block of frames (a single one, as a rule).

    The same seed and actions give the same frames, bit for bit, on the same machine with as many threads.

    Attributes:
        action_space: By the record of the actions that the model was trained on: Discrete, MultiDiscrete, MultiBinary, Box
            with the data's range, or a Dict of them.
        observation_space: Pixels uint8 (height width 3), or latents float32 (c h w).
    """

    metadata: dict[str, Any] = {"render_modes": MODES, "render_fps": 10}

    def __init__(
        self,
        world: str | Path,
        *,
        starts: Starts = None,
        reward: Judge | str | None = None,
        terminated: Judge | str | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ):
        """Open a world model.

        Args:
            world: A folder that `v2w finetune` or `v2w convert` wrote.
            starts: Where episodes begin: a data set, whose episodes' first frames are taken (of 256 episodes at most), or a
                sequence of `v2w_convert.data.Episode`; None: the data set in the world's folder `starts`.
            reward: A function of the observation before, the action and the observation after it, or "MODULE:FUNCTION"; None:
                every reward is 0.
            terminated: The same, whether the episode has ended; None: it never does.
            render_mode: "rgb_array", or "human" where pygame is installed.
            settings: `observation` ("pixels" or "latents"), `max_episode_steps`, and of `v2w rollout` `steps`, `guidance`,
                `context_noise`, `history_guidance`, `history_guidance_noise`, `history`, `prompt`, `device`, `dtype`, and how the
                data set is read (`camera`, …).

        Raises:
            V2WError: An argument is wrong, the model or the data cannot be read or do not fit together, or nobody says what
                its actions are.
        """
        require_mode(render_mode, MODES)
        self._judges = Judges(reward, terminated)
        self._opened = open_world(
            Path(world), starts, read_settings(settings, f"make an environment of {world}")
        )
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self._opened.fps / self._opened.frames_per_step}
        self.action_space = self._opened.actions.space
        self.observation_space = self._opened.observation_space
        self._streams = Streams(self._opened, 1)
        self._elapsed = 0
        self._window = Window(self.metadata["render_fps"])

    def get_action_meanings(self) -> list[str]:
        """A name for each choice, or for each number of an action."""
        return self._opened.actions.meanings

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode: its history is observed, and its last frame returned as the autoencoder gives it back.

        Args:
            seed: As Gymnasium has it: of where episodes begin and of all noise, of this episode and those after it.
            options: `start`, the number of the beginning, counted from 0; else one is drawn.

        Returns:
            The observation, and `start`.

        Raises:
            V2WError: An option is unknown, or there is no such beginning.
        """
        super().reset(seed=seed)
        given = read_options(options, {"start"})
        start = chosen_start(self._opened, self.np_random, given.get("start"))
        self._streams.begin([0], [start], [noise_seed(self.np_random)])
        self._elapsed = 0
        self._show()
        return self._observation(), {"start": start}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Generate what comes after an action, which is held where a step is several frames.

        Args:
            action: In `action_space`.

        Returns:
            The observation, the reward, whether `terminated` says so, whether `max_episode_steps` are over, and nothing else.

        Raises:
            V2WError: The action is not in the space, a frame is not finite, or a function of the user's fails.
        """
        vector = self._opened.actions.vector(action)
        before = self._streams.observations()[0]
        self._streams.step(vector[None])
        self._elapsed += 1
        after = self._observation()
        reward, terminated = self._judges(before, action, after.copy())
        limit = self._opened.settings.max_episode_steps
        self._show()
        return after, reward, terminated, limit is not None and self._elapsed >= limit, {}

    def branch(self) -> Branch:
        """This moment, to go on from any number of times. Cheap: a state of fixed size is copied, no weights."""
        return self._streams.branch(0, self._elapsed)

    def restore(self, branch: Branch, *, seed: int | None = None) -> NDArray[Any]:
        """Go on from a moment: of this environment, or of another one of the same model with the same settings.

        Args:
            branch: The moment. It is not used up.
            seed: Of the noise to come; None: the noise that would have come.

        Returns:
            Its observation. The numbers from which `reset` draws stay what they are.

        Raises:
            V2WError: It is of another model.
        """
        self._streams.restore([0], [branch], None if seed is None else [seed])
        self._elapsed = branch.elapsed
        self._show()
        return self._observation()

    def render(self) -> NDArray[np.uint8] | None:
        """The newest picture (height width 3), in the mode "rgb_array"; else it is shown at every step."""
        return self._streams.rendered()[0].copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        self._window.close()

    def _observation(self) -> NDArray[Any]:
        found: NDArray[Any] = self._streams.observations()[0].copy()
        return found

    def _show(self) -> None:
        if self.render_mode == "human":
            self._window.show(self._streams.rendered()[0])

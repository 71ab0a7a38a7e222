"""Records episodes of a Gymnasium environment as a data set."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_convert.checkpoint.output import rename_into_place
from v2w_convert.data import Episode, write_dataset
from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.episode import with_last_row
from v2w_convert.errors import V2WError
from v2w_convert.new_file import PARTIAL
from v2w_convert.progress import Progress, ProgressEvent
from v2w_convert.recording.foreign import foreign
from v2w_convert.recording.policies import MakePolicy, load_policy
from v2w_convert.recording.result import RecordResult
from v2w_convert.recording.settings import RecordSettings
from v2w_convert.recording.spaces import describe

RENDER, OBSERVATION = "render", "observation"


def record(env_id: str, output: Path, settings: RecordSettings, progress: Progress) -> RecordResult:
    """Record a data set. `v2w_convert.record` says what it takes and raises."""
    asked = f"record {env_id}"
    require_new(output)
    make_policy = load_policy(settings.policy, settings.hold)
    env = make_env(env_id, settings, asked)
    try:
        meanings = getattr(env.unwrapped, "get_action_meanings", None)
        with foreign(asked):
            names = [str(name) for name in meanings()] if callable(meanings) else None
        space, row = describe(env.action_space, names)
        recorder = Recorder(env, make_policy, space, row, settings, asked, progress)
        fps = settings.fps or _rate(env, asked)
        # Beside its place, so that a stopped recording leaves nothing behind.
        partial = output.absolute().with_name(PARTIAL.replace("*", f"{os.getpid()}-{secrets.token_hex(4)}"))
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            write_dataset(
                recorder.episodes(),
                partial,
                fps=fps,
                action_names=space,
                task=settings.task or "",
                robot=env_id,
            )
            rename_into_place(partial, output, f"write a data set to {output}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        with foreign(f"close {env_id}"):
            env.close()
    height, width = recorder.size
    return RecordResult(
        env_id,
        str(output),
        settings.episodes,
        recorder.frames,
        height,
        width,
        fps,
        space.names,
        recorder.ended,
    )


def require_new(output: Path) -> None:
    """Check that nothing is there, or an empty folder.

    Raises:
        V2WError: Something is.
    """
    if os.path.lexists(output) and not (output.is_dir() and not any(output.iterdir())):
        raise V2WError(f"write a data set to {output}", "something is there", "name a new folder")


def make_env(env_id: str, settings: RecordSettings, asked: str) -> Any:
    """The environment; MODULE:ID imports a module that registers it.

    Raises:
        V2WError: Gymnasium is not installed, or does not make it.
    """
    try:
        import gymnasium
    except ImportError:
        raise V2WError(asked, "gymnasium is not installed", "pip install 'v2w-convert[env]'") from None
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window, no sound, no greeting
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with foreign(asked):
        return gymnasium.make(env_id, render_mode="rgb_array", **_arguments(settings, asked))


class Recorder:
    """Plays episodes.

    Attributes:
        frames: How many frames were recorded.
        ended: Episodes that the environment ended.
        size: Height and width of the frames.
    """

    def __init__(
        self,
        env: Any,
        make_policy: MakePolicy,
        space: ActionSpace,
        row: Any,
        settings: RecordSettings,
        asked: str,
        progress: Progress,
    ):
        """Take what it goes by."""
        self.env, self.make_policy, self.space, self.row = env, make_policy, space, row
        self.settings, self.asked, self.progress = settings, asked, progress
        self.frames = self.ended = 0
        self.size = (0, 0)

    def episodes(self) -> Iterator[Episode]:
        """As many as are asked for, one after the other; the same for the same seed."""
        count = self.settings.episodes
        for number in range(count):
            # Neighbouring seeds share no episode: one may be for training, the other for tests.
            start, acting = np.random.SeedSequence([self.settings.seed, number]).generate_state(2).tolist()
            episode = self._episode(start, acting)
            self.frames += len(episode)
            self.size = episode.frames.shape[1:3]
            yield episode
            self.progress(ProgressEvent("record", number + 1, count, f"{self.frames} frames"))

    def _episode(self, start: int, acting: int) -> Episode:
        policy = self.make_policy(self.env, acting)
        with foreign(self.asked):
            observation, _ = self.env.reset(seed=start)
        frames, rows = [self._frame(observation)], []
        over = False
        while len(frames) < self.settings.length and not over:
            action = self._action(policy, observation)
            rows.append(self.row(action))
            with foreign(self.asked):
                observation, _, terminated, truncated, _ = self.env.step(action)
            frames.append(self._frame(observation))
            over = bool(terminated or truncated)
        self.ended += over
        if len({frame.shape for frame in frames}) > 1:
            raise V2WError(self.asked, "its pictures change their size", "--height and --width")
        return Episode(np.stack(frames), with_last_row(self.space.encode(np.stack(rows), self.asked)))

    def _action(self, policy: Any, observation: Any) -> Any:
        """What the policy answers, which must be of the action space: an action that is changed on the way would be recorded
        wrong."""
        asked = f"run the policy {self.settings.policy}"
        space = self.env.action_space
        with foreign(asked):
            action = policy(observation)
            if space.dtype is not None and not isinstance(action, tuple | dict):
                whole = np.asarray(action)
                cast = whole.astype(space.dtype)
                action = cast if np.issubdtype(space.dtype, np.floating) or (cast == whole).all() else whole
                action = action[()] if action.ndim == 0 else action
            fits = space.contains(action)
        if not fits:
            raise V2WError(asked, f"it returned {action!s:.200}, which is not in {space!s:.200}")
        return action

    def _frame(self, observation: Any) -> NDArray[np.uint8]:
        view = self.settings.view
        if view == RENDER:
            with foreign(self.asked):
                picture = self.env.render()
        elif view == OBSERVATION:
            picture = observation
        else:
            keys = list(observation) if isinstance(observation, dict) else []
            if view not in keys:
                raise V2WError(
                    self.asked,
                    f"its observation has no {view!r}",
                    ", ".join([RENDER, OBSERVATION, *map(str, keys)]),
                )
            picture = observation[view]
        if (
            not isinstance(picture, np.ndarray)
            or picture.dtype != np.uint8
            or picture.ndim != 3
            or picture.shape[2] != 3
        ):
            found = (
                f"{picture.dtype} of shape {picture.shape}"
                if isinstance(picture, np.ndarray)
                else type(picture).__name__
            )
            raise V2WError(
                self.asked, f"{view} is {found}, not a picture (height, width, 3) of uint8", "--view"
            )
        height, width = self.settings.height or picture.shape[0], self.settings.width or picture.shape[1]
        if height % 2 or width % 2:
            raise V2WError(
                self.asked, f"frames of {height} x {width}: videos have even sides", "--height and --width"
            )
        if picture.shape[:2] == (height, width):
            return picture.copy()  # some environments draw into the same array again
        return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def _arguments(settings: RecordSettings, asked: str) -> dict[str, Any]:
    """--env-arg: values as JSON where they are, else as text."""
    found: dict[str, Any] = {}
    for entry in settings.env_arg:
        name, equals, value = entry.partition("=")
        if not (equals and name.isidentifier()) or name in found or name == "render_mode":
            raise V2WError(
                asked, f"--env-arg {entry!r:.100} is not NAME=VALUE, or there twice, or render_mode"
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _rate(env: Any, asked: str) -> int:
    rate = env.metadata.get("render_fps")
    if not isinstance(rate, int | float) or not 1 <= rate <= 1000:
        raise V2WError(asked, "the environment has no render_fps", "--fps")
    if rate != round(rate):
        raise V2WError(asked, f"its render_fps is {rate}, not a whole number", "--fps")
    return round(rate)

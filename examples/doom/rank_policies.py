"""Rank policies in the dream, and in the game itself.

    python -m examples.doom.rank_policies [--starts 16] [--length 8]

Eight policies play ViZDoom's scenario from the same moments as they do in the world model: the game is begun anew with the same
seed and the same first actions for each. What is measured is the same function of frames in both: how much the view moves, the
mean absolute difference of one frame from the next, averaged over 8 x 8 pixels. It tells policies that turn from those that walk
or stay, and not how well they play: the world model knows no health. Printed are the mean of each policy in both, and Spearman's
rank correlation with an interval over starts. Needs `pip install '.[record]'`; about two minutes on two cores.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from examples.doom.pipeline.record import FPS, FRAME_SKIP, NAMES, SIZE, game
from v2w_convert.data import Episode, write_dataset
from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.env import WorldVectorEnv
from v2w_convert.evaluation.metrics import bootstrap_of

DOOM = Path(__file__).parent
SCENARIO = "deathmatch"
HISTORY = 8
SEED = 70_000  # of the first start's game: no data set is recorded with it
LEFT, RIGHT, ON = range(3)
SPACE = ActionSpace((ActionPart("action", "discrete", len(NAMES), tuple(NAMES)),))

Frame = NDArray[np.uint8]
Policy = Callable[[Frame, int, np.random.Generator], int]
"""Of the newest frame (h w 3), the number of the step, and numbers to draw from: an action."""


def away_from_walls(frame: Frame, step: int, random: np.random.Generator) -> int:
    """Walk on, and turn where the middle of the view is nearly even: a wall is near."""
    return LEFT if frame[24:40, 24:40].std() < 12 else ON


POLICIES: dict[str, Policy] = {
    "left": lambda frame, step, random: LEFT,
    "right": lambda frame, step, random: RIGHT,
    "on": lambda frame, step, random: ON,
    "to and fro": lambda frame, step, random: (LEFT, RIGHT)[step % 2],
    "turn, then on": lambda frame, step, random: LEFT if step < 3 else ON,
    "a turn in three": lambda frame, step, random: LEFT if step % 3 == 0 else ON,
    "two turns in three": lambda frame, step, random: ON if step % 3 == 0 else RIGHT,
    "away from walls": away_from_walls,
}


def movement(before: Frame, action: Any, after: Frame) -> float:
    """How much the view moves, in grey levels: the reward of a step in the game and in the dream."""
    coarse = [
        x.astype(float).reshape(*(n for side in x.shape[:2] for n in (side // 8, 8)), 3).mean((1, 3))
        for x in (before, after)
    ]
    return float(np.abs(coarse[1] - coarse[0]).mean())


class Game:
    """ViZDoom from moments that can be had again."""

    def __init__(self) -> None:
        """Start it."""
        self.doom = game(SCENARIO, SEED)

    def begin(self, start: int) -> Episode:
        """Begin anew: the first frames of a start, which are the same every time."""
        self.doom.set_seed(SEED + start)
        self.doom.new_episode()
        random = np.random.default_rng(start)
        actions = random.integers(3, size=HISTORY).repeat(2)[:HISTORY]
        frames = [self.see()]
        frames += [self.step(int(action)) for action in actions[: HISTORY - 1]]
        return Episode(np.stack(frames), np.eye(3, dtype=np.float32)[actions])

    def see(self) -> Frame:
        """The screen (h w 3), as data sets have it."""
        screen = Image.fromarray(self.doom.get_state().screen_buffer)
        return np.asarray(screen.resize((SIZE, SIZE), Image.Resampling.BOX))

    def step(self, action: int) -> Frame:
        """The screen after an action."""
        self.doom.make_action([float(action == i) for i in range(3)], FRAME_SKIP)
        return self.see()


def generator(policy: str, start: int) -> np.random.Generator:
    """The numbers that a policy draws from a start on, in the game as in the dream."""
    return np.random.default_rng([list(POLICIES).index(policy), start])


def played(doom: Game, starts: int, length: int) -> tuple[list[Episode], Tensor]:
    """The starts, and each policy's mean reward from each in the game (starts policies)."""
    begun: list[Episode] = []
    rewards = np.zeros((starts, len(POLICIES)))
    for start in range(starts):
        for number, (name, policy) in enumerate(POLICIES.items()):
            episode = doom.begin(start)
            if number and not np.array_equal(episode.frames, begun[-1].frames):
                raise SystemExit("the game did not begin again in the same way")
            begun += [] if number else [episode]
            frame, random = episode.frames[-1], generator(name, start)
            for step in range(length):
                action = policy(frame, step, random)
                after = doom.step(action)
                rewards[start, number] += movement(frame, action, after) / length
                frame = after
    return begun, torch.from_numpy(rewards)


def dreamt(world: Path, begun: list[Episode], length: int, steps: int) -> Tensor:
    """Each policy's mean reward from each start in the world model (starts policies)."""
    rewards = np.zeros((len(begun), len(POLICIES)))
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(begun, Path(folder) / "starts", fps=FPS, action_names=SPACE)
        envs = WorldVectorEnv(
            world,
            num_envs=len(begun),
            starts=Path(folder) / "starts",
            history=HISTORY,
            steps=steps,
            reward=movement,
        )
    envs.reset(seed=0, options={"start": range(len(begun))})
    moments = [envs.branch(start) for start in range(len(begun))]
    for number, (name, policy) in enumerate(POLICIES.items()):
        frames = envs.restore(moments)
        draws = [generator(name, start) for start in range(len(begun))]
        for step in range(length):
            actions = [policy(frame, step, random) for frame, random in zip(frames, draws, strict=True)]
            frames, reward, *_ = envs.step(np.array(actions))
            rewards[:, number] += reward / length
    return torch.from_numpy(rewards)


def spearman(pairs: Tensor) -> Tensor:
    """Rank correlation over policies of mean rewards: of choices of starts (r starts policies 2), (r,)."""
    ranks = pairs.mean(1).argsort(1).argsort(1).double()
    ranks = ranks - ranks.mean(1, keepdim=True)
    return (ranks[..., 0] * ranks[..., 1]).sum(1) / (ranks**2).sum(1).prod(1).sqrt()


def main(arguments: list[str] | None = None) -> Any:
    """Print both rankings; returns the interval of their correlation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", type=Path, default=DOOM / "world")
    parser.add_argument("--starts", type=int, default=16)
    parser.add_argument("--length", type=int, default=8, help="frames that a policy plays")
    parser.add_argument("--steps", type=int, default=2, help="denoising steps of a frame")
    given = parser.parse_args(arguments)
    world = given.world.resolve()
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # the game writes its settings
        doom = Game()
        begun, real = played(doom, given.starts, given.length)
        doom.doom.close()
    dream = dreamt(world, begun, given.length, given.steps)
    print(f"how much the view moves, {given.length} frames from {given.starts} starts\n")
    print("| policy | game | dream |\n|---|---|---|")
    for number in real.mean(0).argsort(descending=True).tolist():
        print(f"| {list(POLICIES)[number]} | {real[:, number].mean():.2f} | {dream[:, number].mean():.2f} |")
    found = bootstrap_of(torch.stack([real, dream], -1), spearman, 0)
    print(f"\nSpearman {found.mean:.2f} [{found.low:.2f}, {found.high:.2f}], 95 % interval over starts")
    return found


if __name__ == "__main__":
    main()

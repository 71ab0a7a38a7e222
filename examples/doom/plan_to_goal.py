"""Reach a goal picture by planning in a world model: the cross-entropy method (CEM), set beside random actions.

    python -m examples.doom.plan_to_goal [--goal dream|recorded] [--starts 8] [--horizon 5]

The goal is what is seen `--horizon` frames ahead: in the dream after hidden actions ("dream"), or in a recorded test episode
("recorded"), whose own actions are set beside the plan's. For each start, actions are planned by dreaming many sequences of
them at once, keeping those that end nearest to the goal, and drawing the next sequences like these. The plan is then carried
out with noise that it has not seen, and so are random sequences. What is reported is how far the last frame is from the goal.
Needs `pip install '.[env]'`; about two minutes on two cores.
"""

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_convert.data import Episode, open_dataset
from v2w_convert.env import WorldVectorEnv
from v2w_convert.evaluation.metrics import bootstrap

DOOM = Path(__file__).parent
HISTORY = 8  # observed frames before the first action
ELITES = 4  # of the sequences of an iteration, these are learned from
SMOOTHING = 0.1  # of the chances of an action, this share is uniform: no action dies out

Frame = NDArray[np.uint8]
Plans = NDArray[np.int64]
"""Actions (n horizon)."""


def distance(frames: Frame, goal: Frame) -> NDArray[np.float64]:
    """Root mean squared difference of frames (n h w 3) from a goal (h w 3), each averaged over 4 x 4 pixels, in grey levels."""

    def coarse(x: Frame) -> NDArray[np.float64]:
        *front, h, w, c = x.shape
        found: NDArray[np.float64] = x.reshape(*front, h // 4, 4, w // 4, 4, c).mean((-4, -2))
        return found

    return np.asarray(np.sqrt(((coarse(frames) - coarse(goal)) ** 2).mean((-3, -2, -1))))


def dream(envs: WorldVectorEnv, moment: Any, plans: Plans, seed: int) -> Frame:
    """The last frames (n h w 3) after plans from a moment, all with the same noise."""
    envs.restore(moment, seed=[seed] * envs.num_envs)
    for actions in plans.T:
        frames: Frame = envs.step(actions)[0]
    return frames


def plan(
    envs: WorldVectorEnv, moment: Any, goal: Frame, horizon: int, iterations: int, random: np.random.Generator
) -> Plans:
    """The best sequence of actions (horizon,) that the cross-entropy method finds."""
    choices = len(envs.get_action_meanings())
    chances = np.full((horizon, choices), 1 / choices)
    best, nearest = np.zeros(horizon, np.int64), np.inf
    for iteration in range(iterations):
        draws = random.random((envs.num_envs, horizon, 1))
        plans = (draws > chances.cumsum(1)).sum(2).clip(max=choices - 1)
        found = distance(dream(envs, moment, plans, seed=1000 + iteration), goal)
        elites = plans[np.argsort(found)[:ELITES]]
        if found.min() < nearest:
            best, nearest = elites[0], float(found.min())
        often = np.stack([(elites == choice).mean(0) for choice in range(choices)], 1)
        chances = (1 - SMOOTHING) * often + SMOOTHING / choices
    return best


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Print the distances; returns them by name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", type=Path, default=DOOM / "world")
    parser.add_argument("--data", type=Path, default=DOOM / "data" / "test")
    parser.add_argument("--goal", choices=["dream", "recorded"], default="dream")
    parser.add_argument("--starts", type=int, default=8, help="episodes, one plan for each")
    parser.add_argument("--horizon", type=int, default=5, help="frames to the goal")
    parser.add_argument("--candidates", type=int, default=12, help="sequences of actions in an iteration")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="denoising steps of a frame")
    given = parser.parse_args(arguments)
    envs = WorldVectorEnv(
        given.world, num_envs=given.candidates, starts=given.data, history=HISTORY, steps=given.steps
    )
    choices = len(envs.get_action_meanings())
    begun = enumerate(e for e in open_dataset(given.data).episodes() if len(e) >= HISTORY)
    long = ((start, e) for start, e in begun if len(e) >= HISTORY + given.horizon)
    rows = []
    for start, episode in islice(long, given.starts):
        random = np.random.default_rng(start)
        first, _ = envs.reset(seed=start, options={"start": start})
        moment = envs.branch(0)
        hidden = goal_actions(episode, given.goal, given.horizon, choices, random)
        if given.goal == "dream":
            goal = dream(envs, moment, np.tile(hidden, (given.candidates, 1)), seed=1)[0]
        else:
            goal = episode.frames[HISTORY + given.horizon - 1]
        planned = plan(envs, moment, goal, given.horizon, given.iterations, random)
        tried = random.integers(choices, size=(given.candidates, given.horizon))
        tried[0], tried[1] = planned, hidden
        ends = distance(dream(envs, moment, tried, seed=2), goal)
        rows.append([ends[0], ends[2:].mean(), ends[1], distance(first[:1], goal)[0]])
    found = torch.tensor(np.array(rows))
    print(
        f"distance from the goal, {given.horizon} frames ahead ({given.goal}), {len(rows)} starts, 95 % interval:"
    )
    result = {}
    for name, values in zip(
        ("planned", "random", "the goal's own actions", "not moving"), found.T, strict=True
    ):
        result[name] = bootstrap(values, 0)
        print(f"  {name:24} {show(result[name])}")
    result["gain"] = bootstrap(found[:, 1] - found[:, 0], 0)
    print(f"  {'random minus planned':24} {show(result['gain'])}")
    return result


def goal_actions(
    episode: Episode, goal: str, horizon: int, choices: int, random: np.random.Generator
) -> Plans:
    """The actions that lead to the goal: drawn, each held for some frames, or those recorded."""
    if goal == "recorded":
        return episode.actions[HISTORY - 1 : HISTORY - 1 + horizon].argmax(1)
    return random.integers(choices, size=horizon).repeat(3)[:horizon]


def show(interval: Any) -> str:
    """A mean with its interval."""
    return f"{interval.mean:6.2f} [{interval.low:.2f}, {interval.high:.2f}]"


if __name__ == "__main__":
    main()

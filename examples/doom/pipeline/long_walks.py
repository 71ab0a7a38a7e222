"""Long rollouts of a world model as one picture: each row is a rollout, its frames evenly spaced from the first to the last.

    python -m examples.doom.pipeline.long_walks --world WORLD --data DIR --output FILE.png [--frames 1000]

Each begins from another recorded episode, draws actions, and holds each for a while, as the recorder does. Needs `pip install '.[env]'`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from numpy.typing import NDArray

from examples.doom.pipeline.pictures import write_sheet
from examples.doom.pipeline.record import LONGEST_HOLD
from v2w_convert.data import open_dataset
from v2w_convert.env import WorldVectorEnv
from v2w_convert.errors import V2WError

HISTORY = 8  # observed frames before the first action
SHOWN = 11  # frames of a row
SEED = 0


def write_long_walks(
    world: Path,
    data: Path,
    output: Path,
    frames: int = 1000,
    rollouts: int = 6,
    steps: int | None = None,
    device: str = "auto",
) -> None:
    """Write the picture. The first column is the last observed frame of a start.

    Args:
        world: A finetuned model's folder.
        data: Episodes to begin from, evenly chosen.
        output: The picture.
        frames: Generated frames of a rollout.
        rollouts: How many there are.
        steps: Of denoising; None: as the world does by default.
        device: Where to compute.

    Raises:
        V2WError: World or data cannot be read, or do not fit together.
    """
    envs = WorldVectorEnv(world, num_envs=rollouts, starts=data, history=HISTORY, steps=steps, device=device)
    long = [number for number, length in enumerate(open_dataset(data).lengths) if length >= HISTORY]
    starts = np.linspace(0, len(long) - 1, rollouts).round().astype(int)
    seen, _ = envs.reset(seed=SEED, options={"start": starts.tolist()})
    wanted = set(np.linspace(0, frames, SHOWN).round().astype(int).tolist())
    kept = [seen.copy()]
    for number, actions in enumerate(wander(envs.single_action_space, rollouts, frames), 1):
        seen = envs.step(actions)[0]
        if number in wanted:
            kept.append(seen.copy())
    envs.close()
    write_sheet(list(np.stack(kept, 1)), output)


def wander(space: Space[Any], walks: int, frames: int) -> Iterator[NDArray[Any]]:
    """The actions of all walks, frame by frame: each draws one, and holds it for as long as the recorder may."""
    random = np.random.default_rng(SEED)
    space.seed(SEED)
    actions: list[Any] = [None] * walks
    left = np.zeros(walks, np.int64)
    for _ in range(frames):
        for walk in np.flatnonzero(left == 0):
            actions[walk], left[walk] = space.sample(), random.integers(1, LONGEST_HOLD + 1)
        left -= 1
        yield np.stack(actions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--rollouts", type=int, default=6)
    parser.add_argument("--steps", type=int, help="of denoising; default: the world's")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    try:
        write_long_walks(
            given.world, given.data, given.output, given.frames, given.rollouts, given.steps, given.device
        )
    except V2WError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

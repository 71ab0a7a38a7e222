"""Tiny action data: a bright square that goes where the action says, on 16x16 pixels."""

from pathlib import Path

import numpy as np

from v2w_convert.data import Episode, write_dataset

LENGTHS = (9, 3, 7, 12)  # one is too short for a clip of 6


def moving_square(t: int, seed: int) -> Episode:
    """Three actions: steps in y and x, and one that never changes."""
    random = np.random.default_rng(seed)
    steps = random.integers(-2, 3, (t, 2))
    frames = np.full((t, 16, 16, 3), 40, np.uint8)
    y = x = 6
    for frame, (dy, dx) in zip(frames, steps, strict=True):
        frame[y : y + 4, x : x + 4] = (220, 180, 90)
        y, x = int(np.clip(y + dy, 0, 12)), int(np.clip(x + dx, 0, 12))
    actions = np.concatenate([steps, np.full((t, 1), 0.1)], 1).astype(np.float32)
    return Episode(frames, actions)


def write(folder: Path, lengths: tuple[int, ...], seed: int = 0, actions: int = 3, size: int = 16) -> Path:
    episodes = [moving_square(t, seed + number) for number, t in enumerate(lengths)]
    episodes = [Episode(e.frames[:, :size, :size], e.actions[:, :actions]) for e in episodes]
    names = ["down", "right", "nothing"][:actions]
    write_dataset(episodes, folder, fps=5, action_names=names, task="move", robot="square")
    return folder

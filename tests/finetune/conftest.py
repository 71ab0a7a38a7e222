"""Tiny action data: a bright square that goes where the action says, on 16x16 pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_convert.data import lerobot
from v2w_convert.data.episode import Episode
from v2w_convert.finetune.settings import Settings
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World

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
    lerobot.write(episodes, folder, fps=5, action_names=names, task="move", robot="square")
    return folder


@pytest.fixture(scope="session")
def write_squares() -> Callable[..., Path]:
    """The function that writes such data to a new folder."""
    return write


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "squares", LENGTHS, seed=0)


@pytest.fixture(scope="session")
def tiny_validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "held_out", (8, 8), seed=100)


@pytest.fixture
def world(tiny_converted: Path) -> World:
    """Ready to be trained."""
    return load(tiny_converted, dtype=torch.float32).train().requires_grad_(True)


@pytest.fixture(scope="session")
def settings(tiny_validation: Path) -> Settings:
    """Four short steps with everything on that a resumed run has to get right."""
    return Settings(
        steps=4,
        batch=2,
        frames=6,
        lr=1e-3,
        warmup=0.25,
        validation=tiny_validation,
        validate_every=2,
        validation_clips=2,
        checkpoint_every=2,
        keep=2,
    )

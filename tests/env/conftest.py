"""A tiny world, and data sets whose actions are of every kind."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.squares import moving_square
from v2w_convert.data import Episode, write_dataset
from v2w_convert.data.actions import ActionPart, ActionSpace

pytest.importorskip("gymnasium")


@pytest.fixture(scope="session")
def heeding(tiny_converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_converted` with action layers that are not zero, as if it had been trained."""
    folder = tmp_path_factory.mktemp("models") / "heeding"
    shutil.copytree(tiny_converted, folder)
    file = folder / "unet" / "v2w_added.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(file)
    for name, value in tensors.items():
        if not value.any() and value.is_floating_point():
            tensors[name] = torch.randn(value.shape, generator=generator).to(value)
    save_file(tensors, file)
    return folder


SPACES = {
    "choice": [ActionPart("action", "discrete", 3, ("left", "right", "on"))],
    "keys": [ActionPart("action", "multi_binary", 3, ("up", "down", "fire"))],
    "amounts": [ActionPart("action", "continuous", 3, ("x", "y", "z"))],
    "mixed": [
        ActionPart("action.turn", "discrete", 2, ("left", "right")),
        ActionPart("action.gas", "continuous", 1, ("gas",)),
    ],
}


def rows_of(kind: str, t: int, random: np.random.Generator) -> Any:
    """Action vectors (t, 3)."""
    if kind == "choice":
        return np.eye(3)[random.integers(0, 3, t)]
    if kind == "keys":
        return random.integers(0, 2, (t, 3))
    if kind == "amounts":
        return random.uniform(-2, 3, (t, 3))
    return np.concatenate([np.eye(2)[random.integers(0, 2, t)], random.uniform(0, 1, (t, 1))], 1)


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`data_of(kind)`: four episodes with actions of the kind; the one of 3 frames is too short to start from."""
    root = tmp_path_factory.mktemp("starts")

    def data(kind: str) -> Path:
        folder = root / kind
        if not folder.exists():
            random = np.random.default_rng(0)
            episodes = [
                Episode(moving_square(t, number).frames, rows_of(kind, t, random).astype(np.float32))
                for number, t in enumerate((9, 3, 10, 12))
            ]
            write_dataset(episodes, folder, fps=5, action_names=ActionSpace(tuple(SPACES[kind])))
        return folder

    return data

"""Data for the commands."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ACTIONS
from v2w_convert.data import Episode, write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8),
            np.eye(ACTIONS, dtype=np.float32)[rng.integers(3, size=24)],
        )
        for _ in range(3)
    ]
    folder = tmp_path / "data"
    write_dataset(episodes, folder, fps=9, action_names=["a", "b", "c"], task="test", robot="test")
    return folder

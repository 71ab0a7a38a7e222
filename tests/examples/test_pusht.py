"""The base's autoencoder is fitted to other pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.doom.pipeline.recipe import Course
from examples.pusht.autoencoder import fit
from v2w_convert import ConvertSettings, Episode, convert
from v2w_convert.data import write_dataset
from v2w_convert.errors import V2WError

pytestmark = pytest.mark.slow
BASE = Path("examples/doom/base")


def test_a_base_learns_to_hold_other_pictures(tmp_path: Path) -> None:
    frames = np.full((8, 32, 32, 3), 255, np.uint8)
    frames[:, 8:16, 8:16] = 40
    data = tmp_path / "data"
    write_dataset([Episode(frames, np.zeros((8, 1), np.float32))], data, fps=1, action_names=["x"])
    course = Course(steps=12, lr=1e-3, batch=2, validate_every=100)
    found = fit(BASE, data, data, course, tmp_path / "base", torch.device("cpu"))
    assert found["before"] < 10 and found["psnr_db"]["after"] > found["before"] + 1
    convert(tmp_path / "base", tmp_path / "converted", ConvertSettings(action_dim=1))
    with pytest.raises(V2WError, match="base exists"):
        fit(BASE, data, data, course, tmp_path / "base", torch.device("cpu"))

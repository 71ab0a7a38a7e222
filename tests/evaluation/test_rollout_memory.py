"""The memory of a rollout does not grow with its length."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from v2w_convert.data import Episode, write_dataset

SIDE = 32
PEAK = (
    "import resource, sys; from v2w_convert.cli import run; code = run(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024); sys.exit(code)"
)


@pytest.mark.slow
def test_a_long_rollout_takes_no_more_memory(tiny_converted: Path, tmp_path: Path) -> None:
    """Kept, a frame would take some 0.4 MB: as numbers, and as shown. Decoder and encoder hold some tens of frames."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    actions = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    episodes = [Episode(frames, actions)] * 2
    write_dataset(episodes, tmp_path / "data", fps=9, action_names=["a", "b", "c"], task="t", robot="r")
    peaks = []
    for count in (70, 220):
        output = tmp_path / f"{count}.mp4"
        options = ["--frames", str(count), "--steps", "1", "--history", "2", "--device", "cpu"]
        command = [
            "rollout",
            str(tiny_converted),
            "--data",
            str(tmp_path / "data"),
            "-o",
            str(output),
            *options,
        ]
        done = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < peaks[0] + 35, f"{peaks} MB"

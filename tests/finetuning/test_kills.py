"""A run that is killed again and again ends as one that was never disturbed."""

import hashlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from v2w_convert.finetuning import shards
from v2w_convert.finetuning.finetune import finetune
from v2w_convert.finetuning.settings import FinetuneSettings

KILLS = 20
SETTINGS = FinetuneSettings(
    steps=6, batch=2, frames=6, lr=1e-3, warmup=0.25, checkpoint_every=1, device="cpu", mixed_precision="no"
)


def weights(run: Path) -> dict[str, str]:
    """Hashes of the model's files, of what was encoded and of the last checkpoint."""
    files = [*run.rglob("*.safetensors"), run / "v2w.json"]
    return {
        str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if "checkpoints" not in file.parts or file.parent.name == f"step-{SETTINGS.steps}"
    }


def stage(run: Path) -> str:
    """What a run was at when it was killed."""
    if (run / "checkpoints").is_dir():
        return "train"
    return "encode" if (run / "run.json").exists() else "begin"


@pytest.mark.slow
def test_killed_at_random_moments(
    tiny_converted: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 4000)  # a shard for each of most episodes
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads do not survive a fork
    try:
        started = time.perf_counter()
        finetune(tiny_converted, tiny_data, tmp_path / "undisturbed", SETTINGS)
        took = time.perf_counter() - started
        expected = weights(tmp_path / "undisturbed")
        chance, killed, ends, runs = random.Random(0), [], 0, 1
        while len(killed) < KILLS or not ends:
            run = tmp_path / f"run-{runs}"
            child = os.fork()
            if child == 0:
                try:
                    finetune(tiny_converted, tiny_data, run, SETTINGS)
                    os._exit(0)
                finally:
                    os._exit(99)
            if len(killed) < KILLS:
                # A run's first life ends while it encodes, which is short here; the others at any moment.
                first, until = not (run / "latents").exists(), time.perf_counter() + took
                while first and not (run / "latents").exists() and time.perf_counter() < until:
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, took / 20 if first else took))
                os.kill(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, -signal.SIGKILL)
            if code == 0 or (run / "v2w.json").exists():
                assert weights(run) == expected
                ends, runs = ends + 1, runs + 1
            else:
                killed.append(stage(run))
    finally:
        torch.set_num_threads(before)
    moments = ", ".join(f"{killed.count(name)} to {name}" for name in ("begin", "encode", "train"))
    with capsys.disabled():
        print(f"\nfinetune: killed {len(killed)} times ({moments}), {ends} runs ended, all alike bit for bit")
    assert {"encode", "train"} <= set(killed)

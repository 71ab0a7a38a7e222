"""Several processes make what one makes: started by torchrun, as a user starts them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from v2w_convert import EvaluateSettings, evaluate

OPTIONS = [
    "--steps",
    4,
    "--batch",
    4,
    "--frames",
    4,
    "--lr",
    1e-3,
    "--checkpoint-every",
    2,
    "--device",
    "cpu",
]
ALLOWED = 0.02  # of the way of two steps: sums in another order, which AdamW enlarges where a gradient is next to zero
Finetune = Callable[..., Path]


FAULTY = """
import os, sys
from v2w_convert.cli import run
from v2w_convert.finetuning import objective

def faulty(*given, **named):
    found = {name}(*given, **named)
    return found * float("nan") if os.environ["RANK"] == "1" else found

{name}, objective.{name} = objective.{name}, faulty
sys.exit(run(sys.argv[1:]))
"""


def start(
    count: int, *arguments: object, program: tuple[object, ...] = ("-m", "v2w_convert")
) -> subprocess.CompletedProcess[str]:
    """`v2w` in several processes."""
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        count,
        "--rdzv-backend",
        "c10d",
    ]
    launch += ["--rdzv-endpoint", "localhost:0", *program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, launch if count > 1 else [sys.executable, "-m", "v2w_convert"]), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )


@pytest.fixture(scope="module")
def finetune(tiny_converted: Path, tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Finetune:
    """Finetunes in some processes, with these options or others; returns the run."""

    def run(count: int, *options: object, output: Path | None = None) -> Path:
        output = output or tmp_path_factory.mktemp("run") / "run"
        done = start(count, "finetune", tiny_converted, "--data", tiny_data, "-o", output, *OPTIONS, *options)
        assert done.returncode == 0, done.stderr[-3000:]
        assert sum(line.endswith("a world model after 4 steps") for line in done.stderr.splitlines()) == 1
        return output

    return run


@pytest.fixture(scope="module")
def alone(finetune: Finetune) -> Path:
    return finetune(1)


def trained(run: Path, step: int = 4) -> dict[str, Tensor]:
    """The weights after a step, before they are averaged."""
    return load_file(run / f"checkpoints/step-{step}/model.safetensors")


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return float(sum((a[name] - b[name]).double().pow(2).sum() for name in a)) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--shard"]])
def test_two_processes_make_what_one_makes(finetune: Finetune, alone: Path, options: list[str]) -> None:
    several = finetune(2, *options)
    assert distance(trained(several), trained(alone)) < ALLOWED * distance(trained(alone, 2), trained(alone))
    states = [load_file(run / "checkpoints/step-4/optimizer.safetensors") for run in (several, alone)]
    assert distance(*states) < ALLOWED * distance(states[0], {name: 0 * x for name, x in states[0].items()})
    logs = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (several, alone)
    ]
    assert [line["step"] for line in logs[0]] == [1, 2, 3, 4]
    for a, b in zip(*logs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-5)


@pytest.mark.slow
def test_what_two_processes_saved_one_goes_on_with(finetune: Finetune, alone: Path, tmp_path: Path) -> None:
    """Sharded or not: a checkpoint holds whole tensors."""
    run = finetune(2, "--shard")
    for path in ("v2w.json", "checkpoints/step-4"):
        target = run / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    found = trained(finetune(1, output=run))
    assert distance(found, trained(alone)) < ALLOWED * distance(trained(alone, 2), trained(alone))


@pytest.mark.slow
def test_what_does_not_go_is_refused(tiny_converted: Path, tiny_data: Path, tmp_path: Path) -> None:
    command = ["finetune", tiny_converted, "--data", tiny_data, "-o", tmp_path / "run", *OPTIONS]
    done = start(2, *command, "--batch", 3)
    assert "a batch of 3 clips" in done.stderr and "--batch 4" in done.stderr
    assert "a fault of v2w" not in done.stderr
    done = start(1, *command, "--shard")
    assert done.returncode == 2 and "there is one process" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "function, asked", [("validation_loss", "validate after step 0"), ("loss", "take step 1")]
)
def test_a_fault_of_one_process_ends_all_of_them(
    function: str, asked: str, tiny_converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """A card of its own may compute what the others do not; none of them waits for it for ever."""
    program = tmp_path / "faulty.py"
    program.write_text(FAULTY.format(name=function))
    command = ["finetune", tiny_converted, "--data", tiny_data, "-o", tmp_path / "run", *OPTIONS, "--shard"]
    command += ["--validation", tiny_data] if function == "validation_loss" else []
    patience = ("--monitor-interval", 10)  # before torchrun ends the others
    done = start(2, *command, program=(*patience, program))
    lines = [line for line in done.stderr.splitlines() if line.startswith("v2w: ")]
    assert len(lines) == 1 and asked in lines[0] and "loss is nan" in lines[0], done.stderr[-3000:]
    assert done.stderr.count("exitcode  : 2") == 2


@pytest.mark.slow
def test_evaluate_in_two_processes(tiny_converted: Path, tiny_data: Path, tmp_path: Path) -> None:
    options = {"steps": 1, "samples": 1, "history": 2, "horizons": 2, "long-frames": 3, "batch": 1}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    output = tmp_path / "two"
    done = start(
        2, "evaluate", tiny_converted, "--data", tiny_data, "-o", output, *flags, "--device", "cpu", "--json"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == 1 and done.stderr.count("report.html, figures.json") == 1
    settings = EvaluateSettings.model_validate(
        {name.replace("-", "_"): [value] if name == "horizons" else value for name, value in options.items()}
        | {"device": "cpu"}
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    evaluate(tiny_converted, tiny_data, settings, output=tmp_path / "one.json")
    torch.set_num_threads(threads)
    assert (output / "figures.json").read_text() == (tmp_path / "one.json").read_text()


def test_a_share_of_each_batch() -> None:
    from v2w_convert.finetuning.processes import own_clips

    class Fake:
        num_processes = 3

        def __init__(self, index: int):
            self.process_index = index

    shares = [torch.arange(12)[own_clips(12, Fake(index))].tolist() for index in range(3)]  # type: ignore[arg-type]
    assert list(chain(*shares)) == list(range(12)) and len(shares[0]) == 4

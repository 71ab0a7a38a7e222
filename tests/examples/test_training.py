"""The pipeline's training loop: stopped anywhere, it goes on to the same weights."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from examples.doom.pipeline.recipe import Course
from examples.doom.pipeline.training import CHECKPOINT, LOG, read_log, train
from v2w_convert.errors import V2WError

STEPS = 70
COURSE = Course(steps=STEPS, lr=1e-2, batch=4, validate_every=20)


def run(
    folder: Path, course: Course = COURSE, stop_at: int | None = None, how: Any = None
) -> dict[str, Tensor]:
    """Train a small model; at the step `stop_at` of this call, do `how` before the loss."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 3))
    model[0].bias.requires_grad_(False)
    seeds: list[int] = []

    def loss_at(generator: torch.Generator) -> Tensor:
        seeds.append(generator.initial_seed())
        x = torch.randn(course.batch, 3, generator=generator)
        loss = (model(x) - x.flip(1)).square().mean()
        return how(loss) if len(seeds) == stop_at else loss

    def validate() -> dict[str, float]:
        assert not model.training
        return {"mean": model(torch.ones(1, 3)).mean().item()}

    train(model, loss_at, validate, course, folder)
    assert not model.training
    assert len(set(seeds)) == len(seeds)
    return model.state_dict()


def terminate(loss: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGTERM)
    return loss


def crash(loss: Tensor) -> Tensor:
    raise ConnectionError


def without_hours(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "hours"} for line in read_log(folder)]


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("every", [0, 3600])
def test_a_stopped_run_goes_on_to_the_same_weights_and_log(every: int, tmp_path: Path) -> None:
    course = COURSE.model_copy(update={"checkpoint_seconds": every})
    expected = run(tmp_path / "whole", course)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "parts", course, 35, terminate)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] == 35
    with pytest.raises(ConnectionError):
        run(tmp_path / "parts", course, 30, crash)
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] == (35 if every else 64)
    assert_equal(run(tmp_path / "parts", course), expected)
    assert without_hours(tmp_path / "parts") == without_hours(tmp_path / "whole")
    assert_equal(run(tmp_path / "parts", course, 1, crash), expected)  # nothing is left to do


def test_it_learns_and_its_log_says_so(tmp_path: Path) -> None:
    run(tmp_path / "run", COURSE.model_copy(update={"steps": 400}))
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.3 * losses[0]
    assert [line["step"] for line in lines if "validation" in line] == [*range(20, 401, 20)]


def test_what_needs_no_gradient_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    bias = nn.Linear(3, 8).bias
    trained = run(tmp_path / "run")
    assert torch.equal(trained["0.bias"], bias)
    assert not torch.equal(trained["2.bias"], torch.zeros(3))


def test_a_loss_that_is_no_number_is_named_and_the_checkpoint_stays(tmp_path: Path) -> None:
    course = COURSE.model_copy(update={"checkpoint_seconds": 0})
    with pytest.raises(V2WError, match=r"take step 8 in .*: the loss is nan"):
        run(tmp_path / "run", course, 8, lambda loss: loss * float("nan"))
    assert torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["step"] == 7

"""Masters, optimizers and averages, on a module of a few layers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from v2w_convert.finetuning import training as module
from v2w_convert.finetuning.average import Average
from v2w_convert.finetuning.optimizers import make_optimizer
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.training import OPTIMIZER, Training, master_of


def training(lr: float = 0.1, ema: bool = True, half: bool = False, **flags: Any) -> Training:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 4))
    if half:
        for parameter in base.parameters():
            if parameter.ndim > 1:
                parameter.data = parameter.data.to(torch.bfloat16)
    settings = FinetuneSettings.model_validate(flags)
    masters = {name: master_of(name, p, settings, {}) for name, p in base.named_parameters()}
    optimizer = make_optimizer(settings.optimizer, masters.values(), lr, 0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return Training(base, masters, Average(masters, 0.9) if ema else None, optimizer, schedule, None)


def advance(of: Training, steps: int = 4) -> dict[str, Tensor]:
    """What is trained, after so many steps."""
    for step in range(steps):
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(step))
        with torch.autocast("cpu", torch.bfloat16, enabled=of.base[0].weight.dtype != torch.float32):  # type: ignore[index]
            of.base(x).float().square().mean().backward()
        of.step()
    return {name: master.detach().clone() for name, master in of.masters.items()}


@pytest.mark.parametrize("chunk", [2**26, 100])
def test_an_optimizer_on_copies_takes_the_same_steps(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many gradients it is given at once."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    plain, copied = training(), training(offload_optimizer=True)
    assert all(copied.masters[name] is not p for name, p in copied.parameters.items())
    expected = advance(plain)
    assert all(torch.equal(expected[name], value) for name, value in advance(copied).items())
    assert all(torch.equal(expected[name], p) for name, p in copied.parameters.items())
    assert all(p.grad is None and copied.masters[name].grad is None for name, p in copied.parameters.items())


def test_steps_too_small_for_bfloat16_add_up() -> None:
    half = training(half=True, lr=1e-5, weights="bfloat16", mixed_precision="bf16")
    before = {name: master.detach().clone() for name, master in half.masters.items()}
    weight = half.parameters["0.weight"].detach().clone()
    after = advance(half)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    moved = (half.parameters["0.weight"] != weight).float().mean()
    assert moved < 0.1  # each step is far below what bfloat16 tells apart
    assert torch.equal(half.parameters["0.weight"], after["0.weight"].to(torch.bfloat16))
    assert half.parameters["0.bias"] is half.masters["0.bias"]


@pytest.mark.parametrize("half", [False, True])
def test_averaged_weights_are_lent_and_given_back_exactly(half: bool) -> None:
    flags = {"weights": "bfloat16", "mixed_precision": "bf16"} if half else {}
    one = training(half=half, **flags)
    advance(one)
    assert one.average is not None
    weights = {name: p.detach().clone() for name, p in one.parameters.items()}
    averages = {name: value.clone() for name, value in one.average.values.items()}
    with one.averaged_weights():
        for name, p in one.parameters.items():
            assert torch.equal(p, averages[name].to(p.dtype)) and not torch.equal(p, weights[name])
    assert all(torch.equal(p, weights[name]) for name, p in one.parameters.items())
    assert all(torch.equal(value, averages[name]) for name, value in one.average.values.items())


@pytest.mark.parametrize("half", [False, True])
def test_the_first_weights_are_lent_as_well(half: bool) -> None:
    flags = {"weights": "bfloat16", "mixed_precision": "bf16"} if half else {}
    one = training(half=half, **flags)
    first = {name: p.detach().clone() for name, p in one.parameters.items()}
    one = replace(one, first={name: value.clone() for name, value in first.items()})
    last = advance(one)
    for _ in range(2):
        with one.first_weights():
            assert all(torch.equal(p, first[name]) for name, p in one.parameters.items())
        for name, p in one.parameters.items():
            assert torch.equal(p, last[name].to(p.dtype)) and not torch.equal(p, first[name])


def test_without_an_average_the_weights_are_the_model() -> None:
    one = training(ema=False)
    last = advance(one)
    assert all(torch.equal(one.averaged()[name], value) for name, value in last.items())
    with one.averaged_weights():
        assert all(torch.equal(p, last[name]) for name, p in one.parameters.items())


def test_the_average_is_as_diffusers_has_it() -> None:
    from diffusers.training_utils import EMAModel

    one = training()
    other = EMAModel(one.base.parameters(), decay=0.9)
    for step in range(4):
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(step))
        one.base(x).square().mean().backward()
        one.step()
        other.step(one.base.parameters())
    assert one.average is not None
    for value, expected in zip(one.average.values.values(), other.shadow_params, strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-8bit", "adafactor"])
def test_a_state_is_laid_out_without_a_step(optimizer: str) -> None:
    if optimizer == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    stepped, fresh = training(optimizer=optimizer), training(optimizer=optimizer)
    before = {name: master.detach().clone() for name, master in fresh.masters.items()}
    advance(stepped)
    laid_out, expected = fresh.layout()[OPTIMIZER], stepped.state()[OPTIMIZER]
    assert {name: (x.shape, x.dtype) for name, x in laid_out.items()} == {
        name: (x.shape, x.dtype) for name, x in expected.items()
    }
    assert all(torch.equal(before[name], master) for name, master in fresh.masters.items())
    fresh.load(stepped.state(), 4)
    assert all(
        torch.equal(a, b) for a, b in zip(advance(fresh).values(), advance(stepped).values(), strict=True)
    )

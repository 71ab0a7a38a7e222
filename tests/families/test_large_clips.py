"""Clips so large that attention goes block by block: the same outputs and gradients as by one call with a mask."""

from typing import Any

import pytest
import torch
from torch import Tensor

from v2w_convert.families.build import build_model
from v2w_convert.operations import causal_attention
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.inputs import random_inputs
from v2w_convert.world.model import World

ATTENDING = [
    name for name, file in shipped_plans().items() if any(op.ring_states for op in read_plan(file).operations)
]


def made(name: str, **view: int) -> World:
    plan = adjust_plan(read_plan(shipped_plans()[name]), **view)  # type: ignore[arg-type]
    torch.manual_seed(0)
    base = build_model(plan.base, plan.tiny).eval().double()
    randomize_zero_init(base)
    resolved = resolve(plan, {**plan.tiny, "_class_name": plan.base})
    apply_surgery(resolved, base, 3, seed=0)
    return World(base, resolved, 3, resolved.call.null_conditions()).double()


def measured(world: World, inputs: dict[str, Tensor], **how: Any) -> tuple[Tensor, Tensor]:
    latents = inputs["latents"].clone().requires_grad_()
    output = world(**inputs | {"latents": latents}, **how)
    return output.detach(), torch.autograd.grad(output.sin().sum(), latents)[0]


def assert_same_by_both(world: World, monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    inputs = random_inputs(world, 2, world.resolved.frames(4 * world.frames_per_block), seed=0)
    calls = 0
    block_by_block = causal_attention._block_by_block

    def counted(*given: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return block_by_block(*given)

    monkeypatch.setattr(causal_attention, "_block_by_block", counted)
    expected = measured(world, inputs, **how)
    assert calls == 0
    monkeypatch.setattr(causal_attention, "MAX_MASK", 0)
    found = measured(world, inputs, **how)
    assert calls > 0
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) <= 1e-10 * float(b.abs().max())


@pytest.mark.parametrize("name", ATTENDING)
def test_every_family(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with exact():
        assert_same_by_both(made(name), monkeypatch)


@pytest.mark.parametrize("view", [{"window": 3}, {"window": 2, "sinks": 2}])
@pytest.mark.parametrize("name", ["wan", "cogvideox", "hunyuan-video", "dynamicrafter"])
def test_windows_and_sinks(name: str, view: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with exact():
        assert_same_by_both(made(name, **view), monkeypatch)


@pytest.mark.parametrize("name", ["wan", "cogvideox"])
def test_the_bases_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with exact():
        assert_same_by_both(made(name), monkeypatch, bidirectional=True)

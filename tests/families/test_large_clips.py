"""Clips so large that attention is computed block by block: same outputs and gradients as one call with a mask."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_world
from v2w_convert.operations import causal_attention
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.inputs import random_inputs
from v2w_convert.world.model import World

ATTENDING = [
    name for name, file in shipped_plans().items() if any(op.ring_states for op in read_plan(file).operations)
]


def output_and_gradient(world: World, inputs: dict[str, Tensor], **how: Any) -> tuple[Tensor, Tensor]:
    latents = inputs["latents"].clone().requires_grad_()
    output = world(**inputs | {"latents": latents}, **how)
    return output.detach(), torch.autograd.grad(output.sin().sum(), latents)[0]


def assert_same_by_both(
    world: World, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int] | None = None, **how: Any
) -> None:
    inputs = random_inputs(world, 2, world.resolved.frames(4 * world.frames_per_block), seed=0)
    calls = 0
    block_by_block = causal_attention._block_by_block

    def counted(*given: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return block_by_block(*given)

    monkeypatch.setattr(causal_attention, "_block_by_block", counted)
    expected = output_and_gradient(world, inputs, **how)
    assert calls == 0
    for limit, value in (limits or {"MAX_MASK": 0}).items():
        monkeypatch.setattr(causal_attention, limit, value)
    found = output_and_gradient(world, inputs, **how)
    assert calls > 0
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) <= 1e-10 * float(b.abs().max())


@pytest.mark.parametrize("name", ATTENDING)
def test_every_family_gives_the_same_by_both_ways(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with exact():
        assert_same_by_both(tiny_world(name).double(), monkeypatch)


@pytest.mark.parametrize("name", ["wan", "cogvideox"])
def test_blocks_of_many_tokens_attend_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with exact():
        assert_same_by_both(tiny_world(name).double(), monkeypatch, {"BLOCK_TOKENS": 2})


@pytest.mark.parametrize("view", [{"window": 3}, {"window": 2, "sinks": 2}])
@pytest.mark.parametrize("name", ["wan", "cogvideox", "hunyuan-video", "dynamicrafter"])
def test_windows_and_sinks_give_the_same_by_both_ways(
    name: str, view: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with exact():
        assert_same_by_both(tiny_world(name, **view).double(), monkeypatch)


@pytest.mark.parametrize("name", ["wan", "cogvideox"])
def test_the_bidirectional_form_gives_the_same_by_both_ways(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exact():
        assert_same_by_both(tiny_world(name).double(), monkeypatch, bidirectional=True)

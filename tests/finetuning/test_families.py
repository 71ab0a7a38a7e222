"""Every plan can be trained with each objective that changes what its model sees."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_world
from v2w_convert.finetuning.batches import generators, sample_batch
from v2w_convert.finetuning.levels import plain
from v2w_convert.finetuning.objective import loss
from v2w_convert.plan.read import shipped_plans
from v2w_convert.verification.engine.inputs import latent_size


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped_plans()))
def test_a_history_of_its_own(name: str) -> None:
    world = tiny_world(name).train()
    block, h_w = world.frames_per_block, latent_size(world)
    objective = replace(plain(world.noise), self_history=1.0, loss_weight="min_snr", min_snr_gamma=5.0)
    shape = (4 * block, world.channels, *h_w)
    samples = sample_batch(shape, world.noise, objective, world.resolved.period, generators(2, name), block)
    assert samples.own is not None and samples.own.any()
    chance = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *shape, generator=chance)
    actions = torch.randn(2, shape[0], world.action_dim, generator=chance)
    value = loss(world, latents, actions, samples)
    value.backward()
    assert torch.isfinite(value)
    assert any(p.grad is not None and p.grad.any() for p in world.base.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped_plans()))
def test_agreeing_with_several_steps(name: str) -> None:
    world = tiny_world(name).train()
    block, h_w = world.frames_per_block, latent_size(world)
    objective = replace(plain(world.noise), consistency=1.0)
    shape = (3 * block, world.channels, *h_w)
    samples = sample_batch(shape, world.noise, objective, world.resolved.period, generators(2, name), block)
    assert samples.agrees is not None and samples.agrees.any()
    chance = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *shape, generator=chance)
    actions = torch.randn(2, shape[0], world.action_dim, generator=chance)
    value = loss(world, latents, actions, samples)
    value.backward()
    assert torch.isfinite(value)
    assert any(p.grad is not None and p.grad.any() for p in world.base.parameters())

from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from v2w_convert.finetuning.batches import BatchSamples, generator, sample_batch
from v2w_convert.finetuning.objective import loss, validation_loss
from v2w_convert.noise import NoiseSpec
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.world.model import World

SHAPE = (2, 5, 4, 8, 8)


def clip_of(world: World) -> tuple[Tensor, Tensor, BatchSamples]:
    chance = generator("objective")
    latents, actions = torch.randn(SHAPE, generator=chance), torch.randn(2, 5, 3, generator=chance)
    return latents, actions, sample_batch(SHAPE, world.noise, 0.4, world.resolved.period, chance)


def test_the_loss_is_what_diffusers_makes_of_each_frame_by_itself() -> None:
    scheduler: Any = DDIMScheduler(prediction_type="v_prediction")
    noise = NoiseSpec(kind="ddpm", prediction="v", scheduler=dict(scheduler.config)).build()
    latents, actions = torch.randn(SHAPE), torch.randn(2, 5, 3)
    draws = sample_batch(SHAPE, noise, 0.4, 7, generator(0))
    guess = torch.randn(SHAPE)
    seen: dict[str, Any] = {}

    def world(noisy: Tensor, level: Tensor, actions: Tensor, dropped: Tensor, *, offset: Tensor) -> Tensor:
        seen.update(noisy=noisy, level=level, actions=actions, dropped=dropped, offset=offset)
        return guess

    stand_in: Any = type("StandIn", (), {"noise": noise, "__call__": staticmethod(world)})()
    value = loss(stand_in, latents, actions, draws)

    level = draws.level.flatten().long()
    flat, drawn = latents.flatten(0, 1), draws.noise.flatten(0, 1)
    torch.testing.assert_close(seen["noisy"].flatten(0, 1), scheduler.add_noise(flat, drawn, level))
    target = scheduler.get_velocity(flat, drawn, level)
    torch.testing.assert_close(value, ((guess.flatten(0, 1) - target) ** 2).mean())
    assert seen["level"] is draws.level and seen["dropped"] is draws.dropped
    assert seen["actions"] is actions and seen["offset"] is draws.offset


def test_the_loss_of_a_batch_is_the_mean_of_its_clips(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, draws = clip_of(world)
    parts = [slice(0, 1), slice(1, 2)]
    alone = [loss(world, latents[part], actions[part], draws.select(part)) for part in parts]
    torch.testing.assert_close(loss(world, latents, actions, draws), sum(alone) / 2)


def test_action_layers_learn_from_the_last_one_on(world: World) -> None:
    """The last layer starts at zero, so at first it alone gets a gradient; with it awake, all get one."""
    latents, actions, draws = clip_of(world)
    embedding = world.base.get_submodule("time_embedding.v2w_action")

    def learning() -> set[str]:
        world.zero_grad()
        loss(world, latents, actions, draws).backward()
        return {name for name, p in embedding.named_parameters() if p.grad is not None and p.grad.any()}

    assert learning() == {"last.weight", "last.bias"}
    randomize_zero_init(world)
    assert learning() == {name for name, _ in embedding.named_parameters()}


def test_dropped_actions_are_not_looked_at(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, draws = clip_of(world)
    first = torch.arange(5) == 0
    unseen = (draws.dropped | first)[..., None]
    assert unseen[:, 1:].any() and not unseen.all()
    with torch.no_grad():
        before = loss(world, latents, actions, draws)
        assert loss(world, latents, torch.where(unseen, actions + 1, actions), draws) == before
        assert loss(world, latents, torch.where(unseen, actions, actions + 1), draws) != before


def test_offsets_reach_the_base(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, draws = clip_of(world)
    assert draws.offset is not None
    moved = BatchSamples(draws.level, draws.noise, draws.dropped, draws.offset + 1)
    with torch.no_grad():
        assert loss(world, latents, actions, draws) != loss(world, latents, actions, moved)


def test_gradient_checkpointing_gives_the_same_gradients(world: World) -> None:
    """Sites are called again in the backward pass: they must still be bound to this pass then."""
    randomize_zero_init(world)
    latents, actions, draws = clip_of(world)

    def gradients() -> list[Tensor]:
        world.zero_grad()
        loss(world, latents, actions, draws).backward()
        return [p.grad.clone() for p in world.parameters() if p.grad is not None]

    calls = []
    # Before its forward: computing again stops in the middle of a module, as soon as nothing more is needed.
    world.base.get_submodule("down_blocks.0.resnets.0").register_forward_pre_hook(lambda *_: calls.append(1))
    before = gradients()
    assert len(calls) == 1
    world.base.enable_gradient_checkpointing()  # type: ignore[operator]
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(), strict=True))
    assert len(calls) == 3


def test_validation_is_repeatable_and_leaves_no_trace(world: World) -> None:
    latents, actions, _ = clip_of(world)
    random = torch.random.get_rng_state()
    value = validation_loss(world, latents, actions, seed=0)
    assert validation_loss(world, latents, actions, seed=0) == value
    assert validation_loss(world, latents, actions, seed=1) != value
    torch.testing.assert_close(validation_loss(world, latents, actions, seed=0, batch=1), value)
    assert world.training and all(p.grad is None for p in world.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)

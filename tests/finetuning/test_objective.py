import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from v2w_convert.finetuning.batches import BatchSamples, generator, generators, sample_batch
from v2w_convert.finetuning.levels import plain
from v2w_convert.finetuning.objective import in_several_steps, loss, validation_loss, with_own_history
from v2w_convert.noise import NoiseSpec
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.world.model import World

SHAPE = (2, 5, 4, 8, 8)


def clip_of(world: World, **changes: Any) -> tuple[Tensor, Tensor, BatchSamples]:
    chance = generator("objective")
    latents, actions = torch.randn(SHAPE, generator=chance), torch.randn(2, 5, 3, generator=chance)
    objective = replace(plain(world.noise), **{"action_dropout": 0.4, **changes})
    chances = generators(2, "objective")
    return latents, actions, sample_batch(SHAPE[1:], world.noise, objective, world.resolved.period, chances)


def test_the_loss_is_what_diffusers_makes_of_each_frame_by_itself() -> None:
    scheduler: Any = DDIMScheduler(prediction_type="v_prediction")
    noise = NoiseSpec(kind="ddpm", prediction="v", scheduler=dict(scheduler.config)).build()
    latents, actions = torch.randn(SHAPE), torch.randn(2, 5, 3)
    samples = sample_batch(SHAPE[1:], noise, replace(plain(noise), action_dropout=0.4), 7, generators(2, 0))
    guess = torch.randn(SHAPE)
    seen: dict[str, Any] = {}

    def world(noisy: Tensor, level: Tensor, actions: Tensor, dropped: Tensor, *, offset: Tensor) -> Tensor:
        seen.update(noisy=noisy, level=level, actions=actions, dropped=dropped, offset=offset)
        return guess

    stand_in: Any = type("StandIn", (), {"noise": noise, "__call__": staticmethod(world)})()
    value = loss(stand_in, latents, actions, samples)

    level = samples.level.flatten().long()
    flat, noises = latents.flatten(0, 1), samples.noise.flatten(0, 1)
    torch.testing.assert_close(seen["noisy"].flatten(0, 1), scheduler.add_noise(flat, noises, level))
    target = scheduler.get_velocity(flat, noises, level)
    torch.testing.assert_close(value, ((guess.flatten(0, 1) - target) ** 2).mean())
    assert seen["level"] is samples.level and seen["dropped"] is samples.dropped
    assert seen["actions"] is actions and seen["offset"] is samples.offset


def test_the_loss_of_a_batch_is_the_mean_of_its_clips(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world)
    parts = [slice(0, 1), slice(1, 2)]
    alone = [loss(world, latents[part], actions[part], samples.select(part)) for part in parts]
    torch.testing.assert_close(loss(world, latents, actions, samples), sum(alone) / 2)


def test_action_layers_learn_from_the_last_one_on(world: World) -> None:
    """The last layer starts at zero, so at first it alone gets a gradient; with it randomized, all get one."""
    latents, actions, samples = clip_of(world)
    embedding = world.base.get_submodule("time_embedding.v2w_action")

    def learning() -> set[str]:
        world.zero_grad()
        loss(world, latents, actions, samples).backward()
        return {name for name, p in embedding.named_parameters() if p.grad is not None and p.grad.any()}

    assert learning() == {"last.weight", "last.bias"}
    randomize_zero_init(world)
    assert learning() == {name for name, _ in embedding.named_parameters()}


def test_dropped_actions_are_not_looked_at(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world)
    first = torch.arange(5) == 0
    unseen = (samples.dropped | first)[..., None]
    assert unseen[:, 1:].any() and not unseen.all()
    with torch.no_grad():
        before = loss(world, latents, actions, samples)
        assert loss(world, latents, torch.where(unseen, actions + 1, actions), samples) == before
        assert loss(world, latents, torch.where(unseen, actions, actions + 1), samples) != before


def test_offsets_reach_the_base(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world)
    assert samples.offset is not None
    moved = replace(samples, offset=samples.offset + 1)
    with torch.no_grad():
        assert loss(world, latents, actions, samples) != loss(world, latents, actions, moved)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_errors_of_a_history_do_not_count(share: float, world: World) -> None:
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world, clean_history=1.0 - share, self_history=share)
    history = samples.level == 0
    assert history[:, 0].all() and not history[:, -1].any()
    output = torch.randn(SHAPE)
    counted = samples.weight is not None and samples.weight > 0
    assert torch.equal(counted, ~history)

    def guess(add: Tensor) -> Tensor:
        stand_in: Any = type(
            "StandIn", (), {"noise": world.noise, "__call__": lambda *_, **__: output + add}
        )()
        return loss(stand_in, latents, actions, samples)

    wide = history[..., None, None, None]
    assert torch.equal(guess(torch.zeros(())), guess(wide.float()))
    assert not torch.equal(guess(torch.zeros(())), guess((~wide).float()))


def test_a_history_of_its_own_is_what_the_model_predicts_in_one_step(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world, self_history=1.0)
    own, level, noise = samples.own, samples.draft_level, samples.draft_noise
    assert own is not None and level is not None and noise is not None and own.any()
    seen = with_own_history(world, latents, actions, samples, {})
    assert torch.equal(seen[~own], latents[~own]) and not seen.requires_grad
    # Frame by frame, by a stream's rules: only what came before and the frame's own noise are looked at.
    for b, t in own.nonzero().tolist():
        upto = slice(0, t + 1)
        noisy = world.noise.add_noise(
            latents[b : b + 1, upto], noise[b : b + 1, upto], level[b : b + 1, upto]
        )
        assert samples.offset is not None
        with torch.no_grad():
            output = world(
                noisy,
                level[b : b + 1, upto],
                actions[b : b + 1, upto],
                samples.dropped[b : b + 1, upto],
                offset=samples.offset[b : b + 1],
            )
        clean, _ = world.noise.to_clean_and_noise(output, noisy, level[b : b + 1, upto])
        torch.testing.assert_close(seen[b, t], clean[0, -1], rtol=1e-4, atol=1e-4)
    assert (level[~own & (samples.level == 0)] == 0).all()  # the history's other frames are clean


def test_some_clips_of_a_batch_have_a_history_of_their_own(world: World) -> None:
    """A part of a batch that has none is computed as any other."""
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world, self_history=1.0)
    assert samples.own is not None
    none = replace(samples, own=torch.zeros_like(samples.own))
    assert torch.equal(
        loss(world, latents, actions, none), loss(world, latents, actions, replace(none, own=None))
    )
    one = replace(samples, own=samples.own & torch.tensor([[True], [False]]))
    seen, both = (with_own_history(world, latents, actions, given, {}) for given in (one, samples))
    assert torch.equal(seen[1], latents[1])
    torch.testing.assert_close(seen[0], both[0], rtol=1e-4, atol=1e-5)


def test_no_gradient_passes_through_the_models_own_history(world: World) -> None:
    """Under autocast, too, whose cache once kept the first pass's weights, which have no gradient."""
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world, self_history=1.0)

    def gradients() -> list[Tensor]:
        world.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss(world, latents, actions, samples).backward()
        return [p.grad.clone() for p in world.parameters() if p.grad is not None]

    whole = gradients()
    seen = with_own_history(world, latents, actions, samples, {})
    samples, latents_of = replace(samples, own=None), world.noise.add_noise
    given = latents_of(seen, samples.noise, samples.level)
    world.zero_grad()
    target = world.noise.target(latents, samples.noise, samples.level)
    with torch.autocast("cpu", torch.bfloat16):
        output = world(given, samples.level, actions, samples.dropped, offset=samples.offset)
    assert samples.weight is not None
    (samples.weight[..., None, None, None] * (output.float() - target) ** 2).mean().backward()
    apart = [p.grad for p in world.parameters() if p.grad is not None]
    assert len(whole) == len(apart) > 100
    for one, other in zip(whole, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0.2, atol=0.02)


def test_gradient_checkpointing_gives_the_same_gradients(world: World) -> None:
    """Sites are called again in the backward pass: they must still be bound to this pass then."""
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world)

    def gradients() -> list[Tensor]:
        world.zero_grad()
        loss(world, latents, actions, samples).backward()
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


def test_a_model_that_agrees_with_itself_has_nothing_to_learn_of_consistency(world: World) -> None:
    """One that says the same clean frames from every level; with the data as the target it has much to learn."""
    latents, actions, samples = clip_of(world, consistency=1.0)
    said = torch.randn(SHAPE, generator=generator("said"))

    def answer(noisy: Tensor, level: Tensor, *_: Any, **__: Any) -> Tensor:
        alpha, sigma = (x[..., None, None, None] for x in world.noise.alpha_sigma(level))
        return world.noise.target(said, (noisy - alpha * said) / sigma, level)

    stand_in: Any = type(
        "StandIn", (), {"noise": world.noise, "__call__": lambda _, *a, **k: answer(*a, **k)}
    )()
    assert (samples.level > 0).all()
    assert loss(stand_in, latents, actions, samples) < 1e-4
    assert loss(stand_in, latents, actions, replace(samples, agrees=None)) > 0.5


def test_only_frames_that_are_to_agree_have_another_target(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world, consistency=1.0, clean_history=1.0)
    assert samples.agrees is not None
    noisy = world.noise.add_noise(latents, samples.noise, samples.level)
    clean, noise = in_several_steps(world, latents, noisy, actions, samples, {})
    changed = samples.agrees
    assert changed.any() and not changed.all() and not clean.requires_grad
    assert torch.equal(clean[~changed], latents[~changed])
    assert torch.equal(noise[~changed], samples.noise[~changed])
    # What is predicted there is another way to make the same noisy frames.
    made = world.noise.add_noise(clean, noise, samples.level)
    torch.testing.assert_close(made, noisy, rtol=1e-4, atol=1e-3)
    assert not torch.isclose(clean[changed], latents[changed]).all()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_steps_are_those_of_ddim(world: World, steps: int) -> None:
    """Set beside diffusers' scheduler, told the same timesteps."""
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world, consistency=1.0)
    level = torch.full_like(samples.level, 999)
    samples = replace(samples, level=level, agreeing_steps=steps)
    noisy = world.noise.add_noise(latents, samples.noise, level)
    clean, _ = in_several_steps(world, latents, noisy, actions, samples, {})

    scheduler = DDIMScheduler.from_config(world.noise.scheduler.config, clip_sample=False)  # type: ignore[attr-defined]
    scheduler.set_timesteps(1000)
    timesteps = [min(math.floor(1000 * left / steps), 999) for left in range(steps, 0, -1)]
    frames = noisy
    for timestep, following in zip(timesteps, [*timesteps[1:], 0], strict=True):
        told = torch.full_like(level, timestep)
        with torch.no_grad():
            output = world(frames, told, actions, samples.dropped, offset=samples.offset)
        said = scheduler.step(output, timestep, frames).pred_original_sample
        alpha = scheduler.alphas_cumprod[timestep]
        noise = (frames - alpha.sqrt() * said) / (1 - alpha).sqrt()
        frames = scheduler.add_noise(said, noise, torch.tensor([following]))
    torch.testing.assert_close(clean, said, rtol=1e-4, atol=1e-4)


def test_it_learns_from_the_weights_that_the_run_began_with(world: World) -> None:
    randomize_zero_init(world)
    latents, actions, samples = clip_of(world, consistency=1.0)
    entered = []

    @contextmanager
    def as_it_began() -> Iterator[None]:
        entered.append(True)
        kept = [p.detach().clone() for p in world.parameters()]
        for p in world.parameters():
            p.data.zero_()
        yield
        for p, value in zip(world.parameters(), kept, strict=True):
            p.data.copy_(value)

    own = loss(world, latents, actions, samples)
    other = loss(world, latents, actions, samples, as_it_began=as_it_began)
    assert entered and not torch.isclose(own, other, rtol=1e-2)
    nothing = replace(samples, agrees=torch.zeros_like(samples.dropped))
    loss(world, latents, actions, nothing, as_it_began=as_it_began)
    assert len(entered) == 1

"""Every family in a few passes, without `verify`: causal, streamed as in one pass, and folded as the base.

The long form, for every family, is `test_families.py`.
"""

import pytest
import torch
from torch import Tensor

from tests.families.published import TRAINED
from tests.tiny import ACTIONS, tiny_folded, tiny_resolved, tiny_world
from v2w_convert.operations import CausalAttention
from v2w_convert.plan.call import call_base
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import shipped_plans
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.model import World

# `vid2world` is imported as it is, and leaks: tests/families/test_vid2world.py
PLANS = sorted(shipped_plans().keys() - {"vid2world"})
CLOSE = 1e-9  # of the output's largest value, in float64
WIDTH, HEIGHT = 8, 4


def world_of(name: str, blocks: int) -> World:
    """In float64 with random action layers; with so many blocks in view, where the plan has a window to change."""
    resolved = tiny_resolved(name)
    attends = any(isinstance(operation, CausalAttention) for operation in resolved.sites.values())
    view = {"window": blocks * resolved.frames_per_block} if attends else {}
    world = tiny_world(name, **view).double()
    randomize_zero_init(world.base)
    return world


def nulls(world: World) -> dict[str, Tensor]:
    """Null conditions of two clips, with few tokens: HunyuanVideo 1.5 has two thousand, and takes seconds with them."""
    values = {
        name: condition.null(HEIGHT, WIDTH, tokens=3)
        for name, condition in world.resolved.call.conditions.items()
    }
    return {
        name: value.expand(2, 1, *value.shape)
        if world.resolved.call.conditions[name].is_per_frame
        else value.expand(2, *value.shape)
        for name, value in values.items()
    }


def clip(world: World, blocks: int, seed: int = 0) -> dict[str, Tensor]:
    """Two clips of random latents, levels and actions."""
    generator = torch.Generator().manual_seed(seed)
    t = blocks * world.frames_per_block

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, t, *shape, generator=generator, dtype=torch.float64)

    level = world.noise.sample_training_levels((2, blocks), generator).to(torch.float64)
    return {
        "latents": normal(world.channels, HEIGHT, WIDTH),
        "noise_level": level.repeat_interleave(world.frames_per_block, 1),
        "actions": normal(ACTIONS),
    }


def cut(inputs: dict[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    return {name: x[:, start:stop] for name, x in inputs.items()}


def gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max()) / float(expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("name", PLANS)
def test_no_frame_depends_on_a_later_one_and_every_frame_on_the_one_before(name: str) -> None:
    with exact():
        world = world_of(name, blocks=3)
        n, given = world.frames_per_block, nulls(world)
        inputs, others = clip(world, 4), clip(world, 4, seed=1)
        changed = {key: torch.cat([x[:, : 2 * n], others[key][:, 2 * n :]], 1) for key, x in inputs.items()}
        output = world(**inputs, **given)
        assert torch.equal(world(**changed, **given)[:, : 2 * n], output[:, : 2 * n])
        for key in ("latents", "actions"):
            moved = inputs | {key: inputs[key].clone()}
            moved[key][:, n : 2 * n] = others[key][:, n : 2 * n]
            differs = (world(**moved, **given) != output).flatten(2).any(-1)
            assert not differs[:, :n].any()
            assert differs[:, n : 3 * n].all()


@torch.no_grad()
def test_vid2world_as_released_leaks() -> None:
    """Through norms over the clip; as a control of the test above."""
    with exact():
        world = world_of("vid2world", blocks=3)
        given, inputs, others = nulls(world), clip(world, 4), clip(world, 4, seed=1)
        changed = {key: torch.cat([x[:, :2], others[key][:, 2:]], 1) for key, x in inputs.items()}
        assert not torch.equal(world(**changed, **given)[:, :2], world(**inputs, **given)[:, :2])


@torch.no_grad()
@pytest.mark.parametrize("name", PLANS)
def test_a_stream_gives_what_one_pass_over_the_clip_gives(name: str) -> None:
    with exact():
        world = world_of(name, blocks=3)
        n, given = world.frames_per_block, nulls(world)
        inputs = clip(world, 7)  # past the window twice
        expected = world(**inputs, **given)
        window = None if world.resolved.window else 16 * n
        state = world.empty_state(2, HEIGHT, WIDTH, window=window)
        for start, stop in ((0, 1), (1, 2), (2, 4), (4, 5), (5, 7)):
            chunk = cut(inputs, start * n, stop * n)
            uncommitted, same = world.forward_streamed(state, **chunk, **given)
            assert same is state
            found, state = world.forward_streamed(state, **chunk, **given, commit=True)
            assert torch.equal(found, uncommitted)
            assert gap(found, expected[:, start * n : stop * n]) <= CLOSE


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in PLANS if name not in TRAINED])
def test_the_bidirectional_form_is_the_base(name: str) -> None:
    with exact():
        world, base = (model.double() for model in tiny_folded(name))
        inputs = clip(world, world.resolved.frames(4 * world.frames_per_block) // world.frames_per_block)
        level = inputs["noise_level"][:, :1].expand_as(inputs["noise_level"])
        call, given = world.resolved.call, nulls(world)
        noisy = world.noise.model_input(inputs["latents"], level)
        expected = call_base(base, call, noisy, world.noise.timestep(level)[:, 0], given)
        found = world(inputs["latents"], level, bidirectional=True, **given)
        assert gap(found, expected) <= CLOSE
        assert gap(world(inputs["latents"], level, **given), expected) > 1e-4  # the causal form differs

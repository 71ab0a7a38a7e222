"""Blocks of several frames, and sinks, against the untouched base.

In a model of one layer only attention mixes frames. The last block then equals the base's output for a clip of the frames
that the block sees.
"""

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_folded
from v2w_convert.plan.call import call_base
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.model import World

ONE_LAYER = {
    "wan": "num_layers",
    "ltx-video": "num_layers",
    "cogvideox": "num_layers",
    "cogvideox-15": "num_layers",
}
# Of the largest value, float64: the base and the operation compute their tables in different orders.
ALLOWED = 1e-9


def world_and_base(name: str, **view: int) -> tuple[World, torch.nn.Module]:
    world, base = tiny_folded(name, {ONE_LAYER[name]: 1}, **view)
    return world.double(), base.double()


def of_base(world: World, base: torch.nn.Module, latents: Tensor, level: float) -> Tensor:
    b, t, _, h, w = latents.shape
    call = world.resolved.call
    given = {name: condition.null(h, w) for name, condition in call.conditions.items()}
    levels = torch.full((b, t), level)
    noisy, timestep = world.noise.model_input(latents, levels), world.noise.timestep(levels)[:, 0]
    repeated = {name: x.expand(b, *x.shape) for name, x in given.items()}
    return call_base(base, call, noisy, timestep, repeated)


def frames(world: World, t: int) -> Tensor:
    shape = (2, t, world.channels, 4, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).abs().max()) <= ALLOWED * float(expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "n"), [("wan", 2), ("wan", 3), ("ltx-video", 2), ("cogvideox", 3), ("cogvideox-15", 2)]
)
def test_the_last_block_equals_the_bases_output(name: str, n: int) -> None:
    with exact():
        world, base = world_and_base(name, frames_per_block=n)
        latents = frames(world, 4 * n)
        level = 0.5 if world.noise.max_level == 1 else 500.0
        expected = of_base(world, base, latents, level)
        found = world(latents, torch.full((2, 4 * n), level))
    assert_same(found[:, -n:], expected[:, -n:])
    # The blocks before it see fewer frames than in the base.
    assert not torch.allclose(found[:, :n], expected[:, :n], atol=1e-3 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "n"), [("wan", 1), ("wan", 2), ("ltx-video", 1), ("cogvideox", 1), ("cogvideox-15", 2)]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_sinks_have_the_positions_right_before_the_window(name: str, n: int, streamed: bool) -> None:
    with exact():
        world, base = world_and_base(name, frames_per_block=n, window=3 * n, sinks=2 * n)
        latents = frames(world, 9 * n)
        level = 0.5 if world.noise.max_level == 1 else 500.0
        levels = torch.full((2, 9 * n), level)
        if streamed:
            state = world.empty_state(2, 4, 8)
            for start, stop in ((0, n), (n, 5 * n), (5 * n, 9 * n)):
                now = slice(start, stop)
                found, state = world.forward_streamed(state, latents[:, now], levels[:, now], commit=True)
        else:
            found = world(latents, levels)
        in_view = torch.cat([latents[:, : 2 * n], latents[:, -3 * n :]], 1)
        expected = of_base(world, base, in_view, level)
        assert_same(found[:, -n:], expected[:, -n:])
        window_alone = of_base(world, base, latents[:, -3 * n :], level)[:, -n:]
    assert not torch.allclose(found[:, -n:], window_alone, atol=1e-3 * float(expected.abs().max()))

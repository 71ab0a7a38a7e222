from pathlib import Path

import pytest
import torch

from tests.conftest import ACTIONS
from v2w_convert.plan.probe import wake
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

B, H, W = 2, 8, 8


@pytest.fixture(scope="module")
def world(tiny_converted: Path) -> World:
    world = load(tiny_converted, dtype=torch.float64)
    wake(world.base)
    return world


def seen() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(B, 3, 4, H, W, generator=g).double(), torch.randn(B, 9, ACTIONS, generator=g).double()


@torch.no_grad()
def reference(world: World, history: torch.Tensor, actions: torch.Tensor, sampling: Sampling, seed: int):
    """The same rollout without any stream: every pass over the whole past, ten lines of arithmetic."""
    generator = torch.Generator().manual_seed(seed)
    levels = world.noise.sampling_levels(sampling.steps).tolist()

    def draw(n: int) -> torch.Tensor:
        return torch.randn(B, n, 4, H, W, generator=generator).double()

    context = torch.full((B, 3), sampling.context_noise)
    past, told = world.noise.add(history, draw(3), context), context
    frames = []
    for t in range(3, actions.shape[1]):
        frame = world.noise.add(torch.zeros(B, 1, 4, H, W).double(), draw(1), torch.full((B, 1), levels[0]))
        for level, following in zip(levels, levels[1:], strict=False):
            here = torch.full((B, 1), level)
            arguments = torch.cat([past, frame], 1), torch.cat([told, here], 1), actions[:, : t + 1]
            dropped = torch.zeros(B, t + 1, dtype=torch.bool)
            output = world(*arguments, dropped)[:, -1:]
            dropped[:, -1] = True
            without = world(*arguments, dropped)[:, -1:]
            output = without + sampling.guidance * (output - without)
            clean, noise = world.noise.split(output, frame, here)
            frame = world.noise.add(clean, noise, torch.full((B, 1), following))
        frames.append(frame)
        here = torch.full((B, 1), sampling.context_noise)
        past = torch.cat([past, world.noise.add(frame, draw(1), here)], 1)
        told = torch.cat([told, here], 1)
    return torch.cat(frames, 1)


@pytest.mark.parametrize(
    "sampling", [Sampling(3), Sampling(2, guidance=2.5), Sampling(3, context_noise=20.0)]
)
def test_a_stream_is_the_rollout_without_one(world: World, sampling: Sampling) -> None:
    history, actions = seen()
    stream = world.stream(B, H, W, sampling=sampling, seed=5)
    stream.observe(history, actions[:, :3])
    found = torch.stack([stream.step(actions[:, t]) for t in range(3, 9)], 1)
    torch.testing.assert_close(found, reference(world, history, actions, sampling, 5), rtol=1e-9, atol=1e-9)


def test_a_branch_goes_its_own_way_and_leaves_the_stem(world: World) -> None:
    history, actions = seen()
    stem = world.stream(B, H, W, sampling=Sampling(2), seed=1)
    stem.observe(history, actions[:, :3])
    twin, other, lucky = stem.branch(), stem.branch(), stem.branch(seed=9)
    frame = stem.step(actions[:, 3])
    assert torch.equal(frame, twin.step(actions[:, 3]))
    assert not torch.equal(frame, other.step(-actions[:, 3]))
    assert not torch.equal(frame, lucky.step(actions[:, 3]))
    assert torch.equal(stem.step(actions[:, 4]), twin.step(actions[:, 4]))


def test_a_rollout_may_begin_with_nothing(world: World) -> None:
    frame = world.stream(1, H, W, sampling=Sampling(2)).step()
    assert frame.shape == (1, 4, H, W)
    assert torch.isfinite(frame).all()

from pathlib import Path

import pytest
import torch

from tests.conftest import ACTIONS, tiny_unet
from v2w_convert.checkpoint.open import open_source
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

B, H, W = 2, 8, 8


@pytest.fixture(scope="module")
def world(tiny_converted: Path) -> World:
    world = load(tiny_converted, dtype=torch.float64)
    randomize_zero_init(world.base)
    return world


@pytest.fixture(scope="module")
def in_pairs(tiny_base: Path) -> World:
    """The same base, made to take two frames at a time, and to see four."""
    source = open_source(tiny_base)
    plan = adjust_plan(plan_for(source.class_name), frames_per_block=2, window=4)
    resolved = resolve(plan, source.config, source.scheduler)
    base = tiny_unet().double()
    apply_surgery(resolved, base, ACTIONS, seed=0)
    randomize_zero_init(base)
    world = World(base, resolved, ACTIONS, resolved.call.null_conditions())
    return world.double().eval()


def seen() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(B, 3, 4, H, W, generator=g).double(), torch.randn(B, 9, ACTIONS, generator=g).double()


@torch.no_grad()
def reference(
    world: World, history: torch.Tensor, actions: torch.Tensor, sampling: Sampling, seed: int
) -> torch.Tensor:
    """The same rollout without any stream: every pass over all of the past, ten lines of arithmetic."""
    generator = torch.Generator().manual_seed(seed)
    levels = world.noise.inference_levels(sampling.steps).tolist()

    def sample(t: int) -> torch.Tensor:
        return torch.randn(B, t, 4, H, W, generator=generator).double()

    n, shown = world.frames_per_block, history.shape[1]
    context = torch.full((B, shown), sampling.context_noise or 0.0)
    past, levels_so_far = world.noise.add_noise(history, sample(shown), context), context
    frames = []
    for t in range(shown, actions.shape[1], n):
        frame = world.noise.add_noise(
            torch.zeros(B, n, 4, H, W).double(), sample(n), torch.full((B, n), levels[0])
        )
        for level, following in zip(levels, levels[1:], strict=False):
            here = torch.full((B, n), level)
            arguments = torch.cat([past, frame], 1), torch.cat([levels_so_far, here], 1), actions[:, : t + n]
            dropped = torch.zeros(B, t + n, dtype=torch.bool)
            output = world(*arguments, dropped)[:, -n:]
            dropped[:, -n:] = True
            without = world(*arguments, dropped)[:, -n:]
            output = without + sampling.guidance * (output - without)
            clean, noise = world.noise.to_clean_and_noise(output, frame, here)
            frame = world.noise.add_noise(clean, noise, torch.full((B, n), following))
        frames.append(frame)
        here = torch.full((B, n), sampling.context_noise or 0.0)
        past = torch.cat([past, world.noise.add_noise(frame, sample(n), here)], 1)
        levels_so_far = torch.cat([levels_so_far, here], 1)
    return torch.cat(frames, 1)


@pytest.mark.parametrize(
    "sampling", [Sampling(4), Sampling(2, guidance=2.5), Sampling(4, context_noise=20.0)]
)
def test_a_stream_is_the_rollout_without_one(world: World, sampling: Sampling) -> None:
    history, actions = seen()
    stream = world.stream(B, H, W, sampling=sampling, seed=5)
    stream.observe(history, actions[:, :3])
    found = torch.stack([stream.step(actions[:, t]) for t in range(3, 9)], 1)
    torch.testing.assert_close(found, reference(world, history, actions, sampling, 5), rtol=1e-9, atol=1e-9)


def test_a_stream_of_pairs_is_the_rollout_without_one(in_pairs: World) -> None:
    g = torch.Generator().manual_seed(0)
    history, actions = (
        torch.randn(B, 4, 4, H, W, generator=g).double(),
        torch.randn(B, 10, ACTIONS, generator=g).double(),
    )
    sampling = Sampling(2, guidance=2.5, context_noise=20.0)
    stream = in_pairs.stream(B, H, W, sampling=sampling, seed=5)
    stream.observe(history, actions[:, :4])
    found = torch.cat([stream.step(actions[:, t : t + 2]) for t in range(4, 10, 2)], 1)
    torch.testing.assert_close(
        found, reference(in_pairs, history, actions, sampling, 5), rtol=1e-9, atol=1e-9
    )


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

from pathlib import Path

import pytest
import torch

from tests.conftest import ACTIONS, tiny_unet
from tests.tiny import tiny_world
from v2w_convert.checkpoint.open import open_source
from v2w_convert.errors import V2WError
from v2w_convert.noise.sampler import SolverSampler
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.surgery.load import load
from v2w_convert.verification.engine.reference_rollout import ReferenceRollout
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


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("world", Sampling(4)),
        ("world", Sampling(2, guidance=2.5)),
        ("world", Sampling(4, context_noise=20.0)),
        ("in_pairs", Sampling(2, guidance=2.5, context_noise=20.0)),
        ("in_pairs", Sampling(2, 2.5, 20.0, history_guidance=0.5, history_guidance_noise=300.0)),
    ],
)
def test_a_stream_is_the_rollout_without_one(
    name: str, sampling: Sampling, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(name)
    n, (_, actions) = world.frames_per_block, seen()
    history = torch.randn(B, 2 * n, 4, H, W, generator=torch.Generator().manual_seed(1))
    found = world.stream(B, H, W, sampling=sampling, seed=5)
    expected = ReferenceRollout(world, B, H, W, sampling=sampling, seed=5)
    for rollout in (found, expected):
        rollout.observe(history, actions[:, : 2 * n])
    for t in range(2 * n, 9 - n, n):
        now = actions[:, t : t + n]
        torch.testing.assert_close(found.step_block(now), expected.step_block(now), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_history_guidance_adds_the_difference_from_a_noised_history(world: World) -> None:
    """By clips of one block to come, from what the noise's own generator gives in the documented order."""
    history, actions = seen()
    stream = world.stream(B, H, W, sampling=Sampling(1, 2.5, 5.0, 3.0, 400.0), seed=5)
    stream.observe(history, actions[:, :3])
    found = stream.step(actions[:, 3])
    g = torch.Generator().manual_seed(5)
    shown = []
    for level in (5.0, 400.0):
        level = torch.full((B, 3), level)
        shown.append(
            (world.noise.add_noise(history, torch.randn(history.shape, generator=g).double(), level), level)
        )
    sampler = world.noise.sampler(1)
    start = sampler.start(torch.randn(B, 1, 4, H, W, generator=g).double())
    outputs = []
    for (past, level), dropped in ((shown[0], False), (shown[0], True), (shown[1], False)):
        level = torch.cat([level, sampler.levels[:1].expand(B, 1)], 1)
        bare = torch.zeros(B, 4, dtype=torch.bool)
        bare[:, -1] = dropped
        outputs.append(world(torch.cat([past, start], 1), level, actions[:, :4], bare)[:, -1:])
    own, without, other = outputs
    expected = sampler.step(own + 1.5 * (own - without) + 2 * (own - other), start, 0)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-9, atol=1e-9)


def test_what_was_seen_without_it_cannot_be_guided_by_history(world: World) -> None:
    history, actions = seen()
    stream = world.stream(B, H, W, sampling=Sampling(2), seed=1)
    stream.observe(history, actions[:, :3])
    stream.sampling = Sampling(2, history_guidance=2.0)
    with pytest.raises(V2WError, match="guide by history: the frames before were seen without it"):
        stream.step(actions[:, 3])
    kept = world.stream(B, H, W, sampling=Sampling(2, history_guidance=2.0), seed=1)
    kept.observe(history, actions[:, :3])
    twin = kept.branch()
    twin.sampling = Sampling(2)  # for a while, in which the other history is still kept
    twin.step(actions[:, 3])
    twin.sampling = kept.sampling
    twin.step(actions[:, 4])
    assert twin.past.other is not None and twin.past.blocks == twin.past.other.blocks == 5
    assert kept.past.nbytes == 2 * stream.past.nbytes


def test_a_branch_goes_its_own_way_and_leaves_the_stem(world: World) -> None:
    history, actions = seen()
    stem = world.stream(B, H, W, sampling=Sampling(2, history_guidance=1.5), seed=1)
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


def test_noise_levels_are_shifted_by_the_size_of_the_clip() -> None:
    """LTX-Video's scheduler wants the number of latent tokens: the view's frames, height and width."""
    world = tiny_world("ltx-video", window=4)
    assert world.clip_tokens(6, 8) == 4 * 6 * 8
    streams = [world.stream(1, 4, 4), world.stream(1, 8, 8)]
    assert [stream.tokens for stream in streams] == [64, 256]
    frame = streams[0].step(torch.zeros(1, ACTIONS))
    assert frame.isfinite().all()
    few, many = (world.noise.inference_levels(10, stream.tokens) for stream in streams)
    assert (few[1:-2] < many[1:-2]).all()


def test_patches_are_tokens() -> None:
    assert tiny_world("cogvideox", window=4).clip_tokens(6, 8) == 4 * 3 * 4
    assert tiny_world("kandinsky-5", window=4).clip_tokens(6, 8) == 4 * 3 * 4


@pytest.mark.parametrize("name", ["mochi", "wan", "sana-video", "cosmos"])
def test_a_step_of_a_stream_is_that_of_the_checkpoints_solver(name: str) -> None:
    """Whatever the model says, the scheduler of diffusers goes the same way."""
    world = tiny_world(name).eval()
    noise = world.noise
    sampling = Sampling(4)
    stream = world.stream(1, 4, 4, sampling=sampling, seed=3)
    found = stream.step()
    sampler = noise.sampler(4, stream.tokens)
    frame = sampler.start(torch.randn(1, 1, world.channels, 4, 4, generator=torch.Generator().manual_seed(3)))
    state = world.empty_state(1, 4, 4)
    with torch.no_grad():
        for i, level in enumerate(sampler.levels[:-1]):
            output, _ = world.forward_streamed(state, frame, torch.full((1, 1), float(level)))
            frame = sampler.step(output, frame, i)
    assert torch.equal(found, frame[:, 0])
    assert isinstance(sampler, SolverSampler) == (name in ("wan", "sana-video"))


def test_history_is_given_at_the_level_that_training_visits() -> None:
    world = tiny_world("stable-video-diffusion")
    level = world.noise.history_level
    drawn = world.noise.sample_training_levels((10_000,), torch.Generator().manual_seed(0))
    assert ((drawn / level).log().abs() < 0.3).float().mean() > 0.1
    seen = []
    forward = world.forward_streamed
    world.forward_streamed = lambda *args, **kw: seen.append(args[2]) or forward(*args, **kw)  # type: ignore[method-assign]
    world.stream(1, 4, 4).observe(torch.zeros(1, 2, 4, 4, 4))
    world.stream(1, 4, 4, sampling=Sampling(context_noise=0.5)).observe(torch.zeros(1, 1, 4, 4, 4))
    assert [float(levels[0, 0]) for levels in seen] == pytest.approx([level, 0.5])


def test_rollouts_with_seeds_of_their_own_come_out_the_same_in_any_company(world: World) -> None:
    latents = torch.randn(3, 2, world.channels, H, W, generator=torch.Generator().manual_seed(0)).double()
    actions = torch.ones(3, 2, ACTIONS).double()

    def rolled(rows: list[int], seed: int | list[int]) -> torch.Tensor:
        stream = world.stream(len(rows), H, W, sampling=Sampling(2, history_guidance=1.5), seed=seed)
        stream.observe(latents[rows], actions[rows])
        twin = stream.branch()
        frames = stream.step(actions[rows, 0]), stream.step(actions[rows, 1])
        assert torch.equal(twin.step(actions[rows, 0]), frames[0])
        return torch.stack(frames, 1)

    seeds = [5, 6, 5]
    together = rolled([0, 1, 2], seeds)
    for row in range(3):
        alone = rolled([row], seeds[row])  # the noise of a single rollout with this seed
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-9)
    assert not torch.equal(together[1], rolled([0, 1, 2], [5, 7, 5])[1])
    other = world.stream(3, H, W, sampling=Sampling(2), seed=seeds).branch(1)
    assert torch.equal(other._noise(latents), world.stream(3, H, W, seed=1)._noise(latents))
    with pytest.raises(V2WError, match="start 3 rollouts: 2 seeds"):
        world.stream(3, H, W, seed=[1, 2])

"""Streams that are as far as they are, in one batch."""

import pytest
import torch

from tests.tiny import tiny_world
from v2w_convert.errors import V2WError
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling, Stream
from v2w_convert.world.together import can_step_together, step_together

ROUNDING = 1e-9


def some_world(plan: str) -> World:
    world = tiny_world(plan).double()
    randomize_zero_init(world.base)
    return world


def some_stream(world: World, frames: int, sampling: Sampling, seed: int) -> Stream:
    generator = torch.Generator().manual_seed(seed)
    stream = world.stream(b=1, h=8, w=8, sampling=sampling, seed=seed)
    shape = (1, frames * world.frames_per_block)
    stream.observe(
        torch.randn(*shape, world.channels, 8, 8, generator=generator).double(),
        torch.randn(*shape, world.action_dim, generator=generator).double(),
    )
    return stream


def test_each_stream_is_as_if_it_were_stepped_alone() -> None:
    world, sampling = some_world("stable-video-diffusion"), Sampling(1, guidance=2.0, history_guidance=1.5)
    together = [some_stream(world, frames, sampling, frames) for frames in (1, 6)]
    together[1].step_block(torch.zeros(1, 1, world.action_dim).double())  # a block waits in one of them
    alone = [stream.branch() for stream in together]
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        actions = torch.randn(2, 1, world.action_dim, generator=generator).double()
        made = step_together(together, actions)
        for i, stream in enumerate(alone):
            expected = stream.step_block(actions[i : i + 1])[0]
            torch.testing.assert_close(made[i], expected, atol=ROUNDING, rtol=0)
            assert together[i].state.cursor == stream.state.cursor
    for one, other in zip(together, alone, strict=True):
        assert one.state.cursor == other.state.cursor  # and all that waits is written
        assert one.past.other is not None and other.past.other is not None
        pairs = ((one.state, other.state), (one.past.other.state, other.past.other.state))
        for found, expected in pairs:
            assert found.cursor == expected.cursor
            for site, kept in expected.sites.items():
                for name, value in kept.items():
                    torch.testing.assert_close(found.sites[site][name], value, atol=ROUNDING, rtol=0)


def test_no_stream_moves_another() -> None:
    world, sampling = some_world("wan"), Sampling(2)
    first = [some_stream(world, frames, sampling, frames) for frames in (1, 3)]
    second = [stream.branch() for stream in first]
    a = world.action_dim
    actions = torch.zeros(2, world.frames_per_block, a).double()
    other = actions.clone()
    other[1] += 5
    one, two = step_together(first, actions), step_together(second, other)
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])


@pytest.mark.slow
def test_a_batch_that_fails_leaves_all_streams_as_they_were() -> None:
    world, sampling = some_world("stable-video-diffusion"), Sampling(2)
    streams = [some_stream(world, frames, sampling, frames) for frames in (1, 2)]
    twin = streams[0].branch()
    actions = torch.zeros(2, 1, world.action_dim).double()
    actions[1] = torch.nan
    with pytest.raises(V2WError, match="not finite"):
        step_together(streams, actions)
    assert torch.equal(streams[0].step_block(actions[:1]), twin.step_block(actions[:1]))


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["mochi", "sana-video"])
def test_models_of_all_kinds_can(plan: str) -> None:
    world = some_world(plan)
    stream = some_stream(world, 1, Sampling(2), 0)
    assert can_step_together(stream)


@pytest.mark.slow
def test_a_model_that_cannot_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = some_world("stable-video-diffusion")
    stream = some_stream(world, 1, Sampling(2), 0)
    forward = world.base.forward

    def branches(*args: object, **kwargs: torch.Tensor) -> object:
        assert kwargs["sample"].sum() == kwargs["sample"].sum()
        return forward(*args, **kwargs)

    monkeypatch.setattr(world.base, "forward", branches)
    assert not can_step_together(stream)

"""One pass that writes a block and predicts the next is two passes."""

import pytest
import torch

from tests.tiny import tiny_world
from v2w_convert.errors import V2WError
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling, in_two_passes

ROUNDING = 1e-7  # angles of rotations are float32 in some models


@torch.no_grad()
@pytest.mark.parametrize(
    ("plan", "view"),
    [
        ("stable-video-diffusion", {"window": 3}),
        ("sana-video", {}),
        ("wan", {"window": 4, "sinks": 2, "frames_per_block": 2}),
    ],
)
def test_a_folded_pass_is_two_passes(plan: str, view: dict[str, int]) -> None:
    """Output and state, from the first block past the window on; the last block leaves no trace."""
    world = tiny_world(plan, **view).double()
    randomize_zero_init(world.base)
    n, generator = world.frames_per_block, torch.Generator().manual_seed(0)
    state = world.empty_state(2, 8, 8)
    for step in range(4):
        latents = torch.randn(2, 2 * n, world.channels, 8, 8, generator=generator).double()
        level = torch.rand(2, 2, generator=generator).repeat_interleave(n, 1)
        actions = torch.randn(2, 2 * n, world.action_dim, generator=generator).double()
        given = (state, latents, level, actions if step else None)
        expected, after = in_two_passes(world, *given)
        found, state = world.forward_folded(*given)
        torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=0)
        assert state.cursor == after.cursor == step + 1
        for site, kept in after.sites.items():
            for name, value in kept.items():
                torch.testing.assert_close(state.sites[site][name], value, atol=ROUNDING, rtol=0)
    with pytest.raises(V2WError, match="one block, of which none is before the last"):
        world.forward_folded(state, latents[:, :n], level[:, :n])


@torch.no_grad()
def test_reading_the_state_changes_no_rollout() -> None:
    """A block that waits is written, once, up to rounding; neither a branch nor an unknown action loses it."""
    world = tiny_world("wan", window=4).double()
    randomize_zero_init(world.base)
    stream = world.stream(1, 8, 8, sampling=Sampling(2, guidance=2.0), seed=1)
    action = torch.ones(1, world.action_dim).double()
    stream.step(action)
    assert stream.past.waiting is not None and stream.past.blocks == 1
    read, twin, unknown = stream.branch(), stream.branch(), stream.branch()
    assert read.state.cursor == 1 and read.past.waiting is None and read.past.blocks == 1
    assert stream.past.waiting is not None
    expected = stream.step(action)
    assert torch.equal(twin.step(action), expected)
    torch.testing.assert_close(read.step(action), expected, atol=ROUNDING, rtol=0)
    unknown.step()
    assert unknown.past.blocks == 2


@torch.no_grad()
def test_history_guidance_takes_one_more_pass_at_each_step_and_none_to_write_its_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = tiny_world("wan", window=4).double()
    passes = []
    run = World._run
    monkeypatch.setattr(
        World, "_run", lambda self, now, *given: passes.append(now.t) or run(self, now, *given)
    )
    for sampling, per_step in ((Sampling(3), 1), (Sampling(3, 2.0), 2), (Sampling(3, 2.0, None, 1.5), 3)):
        stream = world.stream(1, 8, 8, sampling=sampling)
        stream.step(torch.ones(1, world.action_dim).double())
        passes.clear()
        stream.step(torch.ones(1, world.action_dim).double())
        # The first pass of each history writes its last block.
        over_two = 1 if sampling.history_guidance == 1 else 2
        assert len(passes) == 3 * per_step and passes.count(2) == over_two

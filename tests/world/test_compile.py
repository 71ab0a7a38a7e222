"""A compiled world computes what the eager world does: every shipped plan's tiny model.

With the backend "eager" the graphs that Dynamo traced run as they are, so outputs must be equal bit for bit. That is what
can go wrong here: sites catch the base's calls by a `TorchFunctionMode`, which Dynamo traces and, after a graph break,
enters again. Inductor then rounds differently; three plans are compared within that.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tests import tiny
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import shipped_plans
from v2w_convert.sites import State
from v2w_convert.verification.engine.inputs import latent_size
from v2w_convert.world.model import World


def plans(*quick: str, without: Iterable[str] = ()) -> list[Any]:
    """All shipped plans but those in `without`; those marked slow that are not `quick`."""
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.slow)
        for name in sorted(shipped_plans().keys() - set(without))
    ]


# Of Vid2World's class, and minutes long: its streams are compiled for one plan.
VID2WORLD_TWINS = ("dynamicrafter", "vid2world-repaired")


# What torch cannot trace, so that there is more than one graph, and what it says with `fullgraph=True`.
GRAPH_BREAKS = {
    "hunyuan-video-15": "[Dd]ata-dependent branching",  # `if is_t2v`, in diffusers
    "mochi": "the base calls attention once per sample",
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def tiny_world(name: str) -> World:
    """Converted, no weight zero: an action that is lost would show."""
    world = tiny.tiny_world(name)
    randomize_zero_init(world.base)
    return world.requires_grad_(False)


def empty_state(world: World) -> State:
    """Of one stream; its window is of two blocks where the plan names none."""
    h, w = latent_size(world)
    window = 2 * world.frames_per_block if world.resolved.window is None else None
    return world.empty_state(1, h, w, window=window)


def clip(world: World, blocks: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random latents, noise levels and actions of one clip."""
    generator = torch.Generator().manual_seed(seed)
    t = blocks * world.frames_per_block
    return (
        torch.randn(1, t, world.channels, *latent_size(world), generator=generator),
        torch.rand(1, t, generator=generator),
        torch.randn(1, t, world.action_dim, generator=generator),
    )


def graphs() -> int:
    """How many graphs were compiled so far."""
    return counters["stats"]["unique_graphs"]


def assert_same_state(found: State, expected: State) -> None:
    assert torch.equal(found.cursor, expected.cursor)
    assert found.sites.keys() == expected.sites.keys()
    for name, state in expected.sites.items():
        assert found.sites[name].keys() == state.keys()
        assert all(torch.equal(found.sites[name][key], value) for key, value in state.items()), name


@torch.no_grad()
@pytest.mark.parametrize("name", plans("wan", "sana-video"))
def test_a_compiled_pass_equals_the_eager_one(name: str) -> None:
    world = tiny_world(name)
    compiled = torch.compile(world, backend="eager", fullgraph=name not in GRAPH_BREAKS)
    first, second = clip(world, 3), clip(world, 3, seed=1)
    assert torch.equal(compiled(*first), world(*first))
    once = graphs()
    assert name in GRAPH_BREAKS or once == 1
    assert torch.equal(compiled(*second), world(*second))
    assert graphs() == once, "other values compiled again"


@torch.no_grad()
@pytest.mark.parametrize("name", plans("wan", without=VID2WORLD_TWINS))
def test_a_compiled_stream_equals_the_eager_one(name: str) -> None:
    """Denoising and committing passes past the window, one block at a time; then two blocks at once."""
    eager, compiled = tiny_world(name), tiny_world(name)
    compiled.compile(backend="eager", fullgraph=name not in GRAPH_BREAKS)
    state = empty_state(eager)
    counted = []
    for step, blocks in enumerate((1, 1, 1, 1, 2)):
        inputs = clip(eager, blocks, seed=step)
        for commit in (False, True) if blocks == 1 else (True,):
            expected, after = eager.forward_streamed(state, *inputs, commit=commit)
            found, found_after = compiled.forward_streamed(state, *inputs, commit=commit)
            assert torch.equal(found, expected)
            assert_same_state(found_after, after)
        state = after
        counted.append(graphs())
    # The second block may compile again, once: what a site keeps can have other strides than the empty state.
    assert len(set(counted[1:-1])) == 1, f"moving the cursor compiled again: {counted}"
    if name not in GRAPH_BREAKS:  # one graph that commits, one that does not, for either number of blocks
        assert counted[0] == 2 and counted[1] <= 4 and counted[-1] <= counted[1] + 2


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPH_BREAKS)
def test_what_torch_cannot_compile_whole_is_refused_in_words(name: str) -> None:
    world = tiny_world(name)
    compiled = torch.compile(world, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=GRAPH_BREAKS[name]):
        compiled(*clip(world, 2))


@torch.no_grad()
def test_a_copy_of_a_compiled_world_is_not_compiled() -> None:
    world = tiny_world("wan")
    world.compile(backend="eager")
    copied = copy.deepcopy(world)
    inputs = clip(world, 2)
    assert torch.equal(copied(*inputs), world(*inputs))
    compiled = graphs()
    state = empty_state(copied)
    copied.forward_streamed(state, *inputs)
    assert graphs() == compiled == 1


def gradients(world: World, run: Callable[..., Tensor]) -> dict[str, Tensor]:
    world.zero_grad()
    run(*clip(world, 3)).square().mean().backward()
    return {name: p.grad.clone() for name, p in world.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["wan", pytest.param("sana-video", marks=pytest.mark.slow)])
def test_a_compiled_world_has_the_eager_gradients(name: str) -> None:
    world = tiny_world(name).requires_grad_(True)
    expected = gradients(world, world)
    found = gradients(world, torch.compile(world, backend="aot_eager"))
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():  # the backward's sums may have another order
        allowed = 1e-4 * float(gradient.abs().max())
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=allowed, msg=parameter)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, when it first loads inductor
@pytest.mark.parametrize("name", ["wan", "sana-video", "latte"])
def test_inductor_differs_by_rounding(name: str) -> None:
    """float32: fused kernels keep intermediate values and sum in another order, so errors are a few hundred roundings."""
    world, compiled = tiny_world(name), tiny_world(name)
    compiled.compile(backend="inductor")
    inputs = clip(world, 2)
    expected = world(*inputs)
    allowed = 1000 * torch.finfo(torch.float32).eps * float(expected.abs().max())
    torch.testing.assert_close(compiled(*inputs), expected, rtol=0, atol=allowed)
    state = empty_state(world)
    expected, after = world.forward_streamed(state, *inputs, commit=True)
    found, found_after = compiled.forward_streamed(state, *inputs, commit=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=allowed)
    for site, kept in after.sites.items():
        for key, value in kept.items():
            allowed = 1000 * torch.finfo(torch.float32).eps * max(float(value.abs().max()), 1.0)
            torch.testing.assert_close(found_after.sites[site][key], value, rtol=0, atol=allowed)


@torch.no_grad()
def test_a_compiled_stream_takes_each_frames_own_picture() -> None:
    """From the cursor on, so that no step compiles again."""
    world = tiny.tiny_world("cogvideox", {"in_channels": 8}, window=3).requires_grad_(False)
    randomize_zero_init(world.base)
    compiled = torch.compile(world.forward_streamed, backend="eager", fullgraph=True)
    pictures = torch.randn(1, 2, 4, *latent_size(world), generator=torch.Generator().manual_seed(3))
    latents, level, actions = clip(world, 4)
    state, counts = empty_state(world), []
    for t in range(4):
        frame = (latents[:, t : t + 1], level[:, t : t + 1], actions[:, t : t + 1])
        expected, after = world.forward_streamed(state, *frame, commit=True, image_latents=pictures)
        found, state = compiled(state, *frame, commit=True, image_latents=pictures)
        assert torch.equal(found, expected)
        assert_same_state(state, after)
        counts.append(graphs())
    assert counts[-1] == counts[1], "another step compiled again"

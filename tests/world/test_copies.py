"""A world can be deep-copied, pickled, saved by torch and cast: every shipped plan's tiny model, bit for bit."""

import copy
import io
import pickle  # noqa: TID251 (the product never unpickles; this test only what it has just written)
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.tiers import slow_except
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import shipped_plans
from v2w_convert.sites import Site
from v2w_convert.verification.engine.inputs import latent_size, random_inputs, slice_of
from v2w_convert.world.model import World


def tiny_world(name: str) -> World:
    """The plan's tiny model, converted, none of its weights zero."""
    world = tiny.tiny_world(name).requires_grad_(False)
    randomize_zero_init(world.base)
    return world


def pickled(world: World) -> World:
    copied: World = pickle.loads(pickle.dumps(world))
    return copied


def saved(world: World) -> World:
    file = io.BytesIO()
    torch.save(world, file)
    file.seek(0)
    copied: World = torch.load(file, weights_only=False)
    return copied


COPIES: dict[str, Callable[[World], World]] = {
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "torch.save": saved,
}


def outputs(world: World) -> list[Tensor]:
    """Of a clip, of its bidirectional form, and of the same clip as a stream, with the stream's state."""
    n = world.frames_per_block
    t = world.resolved.frames(3 * n)
    inputs = random_inputs(world, 2, t, seed=0)
    found = [world(**inputs), world(**inputs, bidirectional=True)]
    state = world.empty_state(2, *latent_size(world), window=None if world.resolved.window else t)
    for start in range(0, t, n):
        output, state = world.forward_streamed(
            state, **slice_of(inputs, start, start + n, world), commit=True
        )
        found.append(output)
    return [*found, *(x for kept in state.sites.values() for x in kept.values())]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
@pytest.mark.parametrize(
    "name", slow_except({"stable-video-diffusion", "sana-video", "vid2world", "wan"}, shipped_plans())
)
def test_copies_give_the_same_bits(name: str) -> None:
    world = tiny_world(name)
    expected = outputs(world)
    for copied in (make(world) for make in COPIES.values()):
        assert_equal(outputs(copied), expected)
        assert list(copied.sites) == list(world.resolved.sites)
        walked = {path: site for path, site in copied.base.named_modules() if isinstance(site, Site)}
        assert copied.sites == walked  # its own, not the original's
        mine = {x.data_ptr() for x in world.state_dict().values()}
        assert not any(x.data_ptr() in mine for x in copied.state_dict().values() if x.numel())


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["latte", "mochi", "vid2world"]
)  # whose sites use more of the base than themselves
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_a_copy_is_independent(name: str, make: Callable[[World], World]) -> None:
    """Of weights that a site finds in the base, too."""
    world = tiny_world(name)
    expected = outputs(world)
    copied = make(world)
    for tensor in (*world.base.parameters(), *world.base.buffers()):
        if tensor.is_floating_point():
            tensor.add_(1)
    assert_equal(outputs(copied), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["latte", "mochi", "vid2world", "wan"])
def test_casting_reaches_what_sites_use(name: str) -> None:
    world = tiny_world(name)
    wide = copy.deepcopy(world).to(torch.float64)
    assert {x.dtype for x in outputs(wide)} == {torch.float64}
    assert_equal(outputs(wide.to(torch.float32)), outputs(world))
    assert {x.device.type for x in world.to("meta").state_dict().values()} == {"meta"}


def test_a_copy_can_be_made_after_a_pass_with_gradients() -> None:
    world = tiny_world("wan").requires_grad_(True)
    inputs = random_inputs(world, 1, 2, seed=0)
    world(**inputs).sum().backward()
    actions = inputs["actions"].requires_grad_()
    world(**inputs | {"actions": actions * 2})
    for make in COPIES.values():
        with torch.no_grad():
            assert torch.equal(make(world)(**inputs), world(**inputs))

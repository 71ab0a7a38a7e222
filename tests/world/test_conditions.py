"""Pictures that every frame receives: laid out from the stream's first frame on, whatever the chunks and blocks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiers import slow_except
from tests.tiny import ACTIONS, tiny_world
from v2w_convert.errors import V2WError
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.world.model import World

H, W = 8, 8
WAN = {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "wan": ("wan", WAN, {"window": 4}),
    "wan, blocks of 3": ("wan", WAN, {"window": 6, "frames_per_block": 3}),
    "cogvideox": ("cogvideox", {"in_channels": 8}, {"window": 4}),
    "cogvideox-15, two frames to a token": ("cogvideox-15", {"in_channels": 8, "ofs_embed_dim": 4}, {"window": 4}),
    "cogvideox-15, blocks of 4": ("cogvideox-15", {"in_channels": 8, "ofs_embed_dim": 4}, {"window": 8, "frames_per_block": 4}),
    "i2vgen-xl": ("i2vgen-xl", {}, {"window": 4}),
    "i2vgen-xl, blocks of 2": ("i2vgen-xl", {}, {"window": 4, "frames_per_block": 2}),
    "stable-video-diffusion": ("stable-video-diffusion", {}, {"window": 4}),
}  # fmt: skip


def world_of(name: str) -> World:
    plan, config, view = CASES[name]
    world = tiny_world(plan, config, **view).double().requires_grad_(False)
    randomize_zero_init(world.base)
    return world


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clip(world: World, blocks: int) -> dict[str, Tensor]:
    t = blocks * world.frames_per_block
    level = torch.full((2, t), 0.5 * world.noise.max_level, dtype=torch.float64)
    return {
        "latents": normal(2, t, world.channels, H, W),
        "noise_level": level,
        "actions": normal(2, t, ACTIONS),
    }


def channels(world: World) -> int:
    return world.resolved.call.conditions["image_latents"].shape()[0]


@torch.no_grad()
@pytest.mark.parametrize(
    "name", slow_except({"wan, blocks of 3", "cogvideox-15, two frames to a token", "i2vgen-xl"}, CASES)
)
@pytest.mark.parametrize("given", [1, 3, 50])  # entries: fewer than frames, so that the last one holds; more
def test_a_stream_receives_each_frames_own_picture(name: str, given: int) -> None:
    world = world_of(name)
    n, c = world.frames_per_block, channels(world)
    inputs, own = clip(world, 7), normal(2, given, c, H, W, seed=1)
    t = 7 * n
    spelled_out = torch.stack([own[:, min(i, given - 1)] for i in range(t)], 1)
    expected = world(**inputs, image_latents=spelled_out)
    assert torch.equal(world(**inputs, image_latents=own), expected)
    state, start = world.empty_state(2, H, W), 0
    for blocks in (1, 2, 1, 3):
        chunk = {key: x[:, start : start + blocks * n] for key, x in inputs.items()}
        draft, _ = world.forward_streamed(state, **chunk, image_latents=own)
        found, state = world.forward_streamed(state, **chunk, image_latents=own, commit=True)
        assert torch.equal(found, draft)
        part = expected[:, start : start + blocks * n]
        assert float((found - part).abs().max()) <= 1e-9 * float(expected.abs().max())
        start += blocks * n


@torch.no_grad()
def test_a_picture_given_once_is_laid_out_as_the_plan_says() -> None:
    first = normal(2, 4, H, W, seed=1)
    for name, later in (("cogvideox", torch.zeros_like(first)), ("stable-video-diffusion", first)):
        world = world_of(name)
        inputs = clip(world, 4)
        spelled_out = torch.stack([first, later, later, later], 1)
        assert torch.equal(world(**inputs, image_latents=first), world(**inputs, image_latents=spelled_out))
    world = world_of("wan")
    with pytest.raises(
        V2WError, match=r"image_latents is given once for a clip, and every frame has its own"
    ):
        world(**clip(world, 4), image_latents=normal(2, 8, H, W))


@torch.no_grad()
def test_a_rollout_receives_the_pictures_of_its_own_frames() -> None:
    """What is generated after some frames depends on their entries, and on no later one."""
    world = world_of("wan, blocks of 3")
    own = normal(1, 12, channels(world), H, W, seed=1)
    history = normal(1, 6, world.channels, H, W)

    def generated(pictures: Tensor) -> Tensor:
        stream = world.stream(1, H, W, image_latents=pictures)
        stream.observe(history)
        return stream.step()  # frames 6, 7 and 8

    expected = generated(own)
    for frame in range(12):
        changed = own.clone()
        changed[:, frame] += 1
        assert torch.equal(generated(changed), expected) == (frame > 8)


@torch.no_grad()
def test_the_first_frames_picture_is_shown_to_every_frame() -> None:
    """I2VGen-XL makes tokens of it, as of a prompt: mid-stream it is still the first frame's."""
    world = world_of("i2vgen-xl")
    own, inputs = normal(2, 40, channels(world), H, W, seed=1), clip(world, 8)
    other = own.clone()
    other[:, 0] += 1
    outputs = []
    for pictures in (own, other):
        state = world.empty_state(2, H, W)
        for start in (0, 4):
            chunk = {key: x[:, start : start + 4] for key, x in inputs.items()}
            found, state = world.forward_streamed(state, **chunk, image_latents=pictures, commit=True)
        outputs.append(found)
    assert (outputs[0] != outputs[1]).flatten(2).any(-1).all()  # frames that have forgotten the first one


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((2, 7, 8, 8), "7, 8, 8"),
        ((1, 8, 8, 8), "for 2 clips"),
        ((2, 0, 8, 8, 8), "2, 0, 8"),
        ((2, 8, 4, 8), "4, 8"),
    ],
)
def test_a_picture_of_another_shape_is_refused(shape: tuple[int, ...], found: str) -> None:
    world = world_of("wan")
    with pytest.raises(V2WError, match=found):
        world(**clip(world, 4), image_latents=torch.zeros(shape, dtype=torch.float64))


def test_a_text_to_video_checkpoint_takes_no_picture() -> None:
    world = tiny_world("wan")
    with pytest.raises(V2WError, match=r"unknown condition image_latents"):
        world(torch.zeros(1, 2, 4, 8, 8), torch.ones(1, 2), image_latents=torch.zeros(1, 8, 8, 8))

"""The folded world model on a real tiny checkpoint, everything in float64."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import ACTIONS, tiny_unet
from v2w_convert.errors import V2WError
from v2w_convert.plan.call import call_base
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.sites import Site
from v2w_convert.surgery.change import install_operations
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World

B, T, H, W = 2, 11, 8, 16  # more than two windows of 5


@pytest.fixture(scope="module")
def world(tiny_converted: Path) -> World:
    world = load(tiny_converted, dtype=torch.float64)
    randomize_zero_init(world.base)
    return world


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "latents": torch.randn(B, T, 4, H, W, generator=g, dtype=torch.float64),
        "noise_level": torch.randint(1, 1000, (B, T), generator=g).double(),
        "actions": torch.randn(B, T, ACTIONS, generator=g, dtype=torch.float64),
        "dropped": torch.rand(B, T, generator=g) < 0.2,
        "text": torch.randn(B, T, 1, 16, generator=g, dtype=torch.float64),
        "image_latents": torch.randn(B, T, 4, H, W, generator=g, dtype=torch.float64),
    }


def changed_after(inputs: dict[str, Tensor], t: int, only: str | None = None) -> dict[str, Tensor]:
    result = {name: value.clone() for name, value in inputs.items()}
    for name in [only] if only else result:
        future = result[name][:, t + 1 :]
        result[name][:, t + 1 :] = ~future if future.dtype == torch.bool else (future + 1).remainder(1000)
    return result


@torch.no_grad()
@pytest.mark.parametrize("t", range(T - 1))
def test_no_frame_sees_the_future(world: World, inputs: dict[str, Tensor], t: int) -> None:
    before, after = world(**inputs), world(**changed_after(inputs, t))
    assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    assert (before != after).flatten(2).any(-1)[:, t + 1 :].all()


@torch.no_grad()
@pytest.mark.parametrize("name", ["latents", "noise_level", "actions", "dropped", "text", "image_latents"])
def test_each_input_reaches_the_frames_from_its_own_on(
    world: World, inputs: dict[str, Tensor], name: str
) -> None:
    before, after = world(**inputs), world(**changed_after(inputs, 4, only=name))
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before != after).flatten(2).any(-1)[:, 5:].all()


@torch.no_grad()
@pytest.mark.parametrize("chunks", [(1,) * 11, (3, 1, 5, 2), (7, 4), (11,)])
def test_a_stream_equals_one_pass(world: World, inputs: dict[str, Tensor], chunks: tuple[int, ...]) -> None:
    expected, state, found, start = world(**inputs), world.empty_state(B, H, W), [], 0
    for n in chunks:
        part = {
            name: value if name == "image_latents" else value[:, start : start + n]
            for name, value in inputs.items()
        }
        world.forward_streamed(state, **{**part, "latents": part["latents"] + 1})
        output, state = world.forward_streamed(state, **part, commit=True)
        found.append(output)
        start += n
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_state_is_of_fixed_size_and_never_changed_in_place(
    world: World, inputs: dict[str, Tensor]
) -> None:
    state = world.empty_state(B, H, W)
    shapes = {(s, k): v.shape for s, kept in state.sites.items() for k, v in kept.items()}
    part = {name: value[:, :1] for name, value in inputs.items()}
    first, following = world.forward_streamed(state, **part, commit=True)
    again, _ = world.forward_streamed(state, **part, commit=True)
    assert torch.equal(first, again)
    assert shapes == {(s, k): v.shape for s, kept in following.sites.items() for k, v in kept.items()}
    assert set(following.sites) == {n for n, seen in world.receptive_fields().items() if seen.sees_past}


@torch.no_grad()
def test_the_two_sided_form_is_the_base(world: World, inputs: dict[str, Tensor]) -> None:
    base, folded = (tiny_unet().double() for _ in range(2))
    install_operations(world.resolved, folded, ACTIONS)
    two_sided = World(folded, world.resolved, ACTIONS, world.resolved.call.null_conditions())
    latents, text, anchor = inputs["latents"], inputs["text"][:, 0], inputs["image_latents"]
    level = inputs["noise_level"][:, :1]
    found = two_sided(latents, level.expand(-1, T), bidirectional=True, text=text, image_latents=anchor)
    time_ids = world.null_added_time_ids.expand(len(latents), -1)
    conditions = {"text": text, "image_latents": anchor, "added_time_ids": time_ids}
    expected = call_base(base, world.resolved.call, latents, level[:, 0], conditions)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_samples_of_a_batch_do_not_meet(world: World, inputs: dict[str, Tensor]) -> None:
    other = {name: value.clone() for name, value in inputs.items()}
    other["latents"][1] += 1
    assert torch.equal(world(**inputs)[0], world(**other)[0])


def test_gradient_checkpointing_gives_the_same_gradients(world: World, inputs: dict[str, Tensor]) -> None:
    gradients = []
    for enable in (False, True):
        world.requires_grad_(True).train()
        (world.base.enable_gradient_checkpointing if enable else world.base.disable_gradient_checkpointing)()
        world.zero_grad()
        world(**inputs).square().mean().backward()
        world(
            **{name: value[:, :3] for name, value in inputs.items()}
        )  # another pass binds after the backward
        gradients.append({name: p.grad.clone() for name, p in world.named_parameters() if p.grad is not None})
    world.base.disable_gradient_checkpointing()
    world.eval().requires_grad_(False)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-12)


def test_wrong_inputs_are_refused(world: World, inputs: dict[str, Tensor]) -> None:
    with pytest.raises(V2WError, match=r"latents are .* actions are"):
        world(inputs["latents"][:, :, :3], inputs["noise_level"], inputs["actions"][..., :2])
    with pytest.raises(V2WError, match="unknown condition txet"):
        world(inputs["latents"], inputs["noise_level"], txet=inputs["text"])
    with pytest.raises(V2WError, match="the plan's is 5"):
        world.empty_state(1, H, W, window=7)
    with pytest.raises(V2WError, match="text is"):
        world(inputs["latents"], inputs["noise_level"], text=inputs["text"][:, :3])


@torch.no_grad()
def test_a_pass_evaluates_no_expression(
    world: World, inputs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object) -> None:
        raise AssertionError("once, when the plan is resolved")

    monkeypatch.setattr("v2w_convert.expression._value", refused)
    part = {name: value[:, :1] for name, value in inputs.items() if name not in ("image_latents", "text")}
    world.forward_streamed(world.empty_state(B, H, W), **part, commit=True)
    world(**inputs)


def test_a_world_knows_its_sites(world: World) -> None:
    assert world.sites == {n: m for n, m in world.base.named_modules() if isinstance(m, Site)}

"""DynamiCrafter's UNet: the original's outputs, the released tensor names, and no leak of future frames after surgery."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.families.golden.random_tensors import random_tensor, weights
from tests.tiers import slow_except
from tests.tiny import tiny_folded, tiny_world
from v2w_convert.families.dynamicrafter import DynamiCrafterUNet
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.verification.engine.inputs import latent_size, random_inputs
from v2w_convert.world.model import World

GOLDEN = Path(__file__).parent / "golden"
REDUCED = {"model_channels": 32, "num_head_channels": 8, "context_dim": 16}
SIZES: dict[int, dict[str, Any]] = {
    256: {"image_scale_learnable": True, "default_fs": 3},
    512: {"default_fs": 24},
    1024: {"default_fs": 10},
}
# The 1,516 tensors of the released 512 model's denoiser, as `shapes_of` writes them.
RELEASED = (1516, "6e8581c7d490d314da32320f470e080e5cd78bd944aa07a135f40eb1781514be")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


# ----------------------------------------------------------------------------------------------- the original


def golden(size: int) -> tuple[DynamiCrafterUNet, dict[str, Tensor], Tensor]:
    """The reduced model with the golden's weights, its inputs, and what the original gave."""
    with torch.device("meta"):
        model = DynamiCrafterUNet(**REDUCED, **SIZES[size]).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights(shapes, size), assign=True)
    inputs = {
        "sample": 3 * random_tensor("input sample", (2, 8, 16, 8, 16), size),
        "timestep": torch.tensor([7, 961]),
        "encoder_hidden_states": 3 * random_tensor("input text", (2, 77, 16), size),
        "image_tokens": 3 * random_tensor("input image", (32, 16, 16), size),
    }
    if size == 256:
        inputs["fs"] = torch.tensor([8, 3])
    return model, inputs, load_file(GOLDEN / f"dynamicrafter_{size}.safetensors")["output"]


def cast(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", slow_except({torch.float64}, [torch.float32, torch.float64]))
def test_outputs_equal_the_originals(size: int, dtype: torch.dtype) -> None:
    model, inputs, expected = golden(size)
    found = model.to(dtype)(**cast(inputs, dtype)).sample
    # The original summed in float32; in float64 what differs is its rounding alone.
    assert max_abs_diff(found, expected) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.bfloat16, 0.2), pytest.param(torch.float16, 0.025, marks=pytest.mark.slow)]
)
def test_outputs_in_half_precision_are_close_to_the_originals(dtype: torch.dtype, allowed: float) -> None:
    model, inputs, expected = golden(256)
    found = model.to(dtype)(**cast(inputs, dtype)).sample
    assert found.dtype == dtype
    # Weights of 8 and of 11 bits, through about a hundred layers.
    assert max_abs_diff(found, expected) <= allowed * float(expected.abs().max())


def test_the_default_frame_rate_is_used_where_none_is_given() -> None:
    model, inputs, expected = golden(512)
    (given,) = model(**inputs, fs=torch.tensor([24, 24]), return_dict=False)
    assert torch.equal(given, model(**inputs).sample)
    assert max_abs_diff(model(**inputs, fs=torch.tensor([24, 10])).sample, expected) > 1e-2


def test_image_tokens_for_the_clip_alone_are_refused() -> None:
    model = DynamiCrafterUNet(**plan_for("DynamiCrafterUNet").tiny)
    sample, tokens = torch.zeros(1, 8, 3, 4, 8), torch.zeros(1, 4, 16)
    with pytest.raises(
        ValueError, match=r"image tokens are \(1, 4, 16\) for 1 clips of 3 frames, not \(3 m d\)"
    ):
        model(sample, torch.zeros(1), tokens, tokens)


@pytest.mark.parametrize("size", SIZES)
def test_a_world_uses_its_bases_frame_rate(size: int) -> None:
    plan = plan_for("DynamiCrafterUNet")
    resolved = resolve(plan, plan.tiny | SIZES[size])
    assert float(resolved.call.null_conditions()["fs"]) == SIZES[size]["default_fs"]


def shapes_of(model: nn.Module) -> tuple[int, str]:
    """How many tensors there are, and the SHA-256 of the sorted lines `name size size …`."""
    state = model.state_dict()
    lines = sorted(" ".join([name, *map(str, tensor.shape)]) for name, tensor in state.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_tensor_names_and_shapes_are_the_released_ones() -> None:
    with torch.device("meta"):
        released, small = DynamiCrafterUNet(), DynamiCrafterUNet(image_scale_learnable=True)
    assert shapes_of(released) == RELEASED
    scales = small.state_dict().keys() - released.state_dict().keys()
    spatial = {name.removesuffix("to_k_ip.weight") for name in released.state_dict() if "to_k_ip" in name}
    assert scales == {f"{name}alpha" for name in spatial}
    assert len(scales) == 16


def test_the_last_layer_of_every_branch_is_zero_initialised() -> None:
    model = DynamiCrafterUNet(**REDUCED, image_scale_learnable=True)
    zero = {name for name, p in model.named_parameters() if p.ndim != 1 and not p.any()}
    ends = (
        "out.2.weight",
        "fps_embedding.2.weight",
        "conv4.3.weight",
        "proj_out.weight",
        "out_layers.3.weight",
    )
    assert zero == {name for name, _ in model.named_parameters() if name.endswith((*ends, "alpha"))}


def test_gradients_are_the_same_when_checkpointed() -> None:
    model = DynamiCrafterUNet(**plan_for("DynamiCrafterUNet").tiny).double().eval()
    randomize_zero_init(model)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 8, 3, 4, 8, generator=generator, dtype=torch.float64)
    text, image = (torch.randn(b, 4, 16, generator=generator, dtype=torch.float64) for b in (1, 3))

    def gradients() -> list[Tensor | None]:
        model.zero_grad()
        with torch.enable_grad():
            model(sample, torch.tensor([5]), text, image).sample.square().mean().backward()
        return [p.grad for p in model.parameters()]

    plain = gradients()
    calls = 0

    def counted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        return torch.utils.checkpoint.checkpoint(*given, use_reentrant=False)

    model.enable_gradient_checkpointing(counted)
    for before, after in zip(plain, gradients(), strict=True):
        assert before is not None and after is not None and torch.equal(before, after)
    layers = [model.init_attn, *model.input_blocks[1:], model.middle_block, *model.output_blocks]
    assert calls == sum(len(block) for block in layers)


# ------------------------------------------------------------------------------------------- the converted model

T = 6  # not the 16 that the original needs


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, World]:
    """A tiny base in float64, and the world with its weights."""
    world, base = tiny_folded("dynamicrafter")
    return base.double(), world.double()


def random_call() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Latents, levels, and conditions with image tokens of each frame's own."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    conditions = {
        "text": normal(2, 5, 16),
        "image_embeds": normal(2, T, 3, 16),
        "image_latents": normal(2, 4, 4, 8),
    }
    return normal(2, T, 4, 4, 8), torch.full((2, T), 300.0, dtype=torch.float64), conditions


def test_a_frames_image_tokens_are_its_own_in_clips_of_any_length(pair: tuple[nn.Module, World]) -> None:
    """The base, called with tokens per frame on 6 frames, is what the world's bidirectional form gives."""
    base, world = pair
    latents, level, conditions = random_call()
    found = world(latents, level, bidirectional=True, **conditions)
    sample = torch.cat([latents, conditions["image_latents"][:, None].expand(-1, T, -1, -1, -1)], 2)
    (expected,) = base(
        sample.movedim(1, 2),
        level[:, 0],
        conditions["text"],
        conditions["image_embeds"].flatten(0, 1),
        return_dict=False,
    )
    assert max_abs_diff(found, expected.movedim(1, 2)) < 1e-9 * float(expected.abs().max())


def test_no_other_frames_image_tokens_reach_a_frames_own_layers(pair: tuple[nn.Module, World]) -> None:
    """Through the past they may reach a later frame; in one spatial layer, only their own."""
    _, world = pair
    latents, level, conditions = random_call()
    spatial = world.base.get_submodule("input_blocks.1.1")
    seen: list[Tensor] = []
    handle = spatial.register_forward_hook(lambda _m, _args, output: seen.append(output.unflatten(0, (2, T))))
    try:
        for changed in range(T):
            others = conditions | {"image_embeds": conditions["image_embeds"].clone()}
            others["image_embeds"][:, changed] += 1
            before, after = (world(latents, level, **given) for given in (conditions, others))
            layer_before, layer_after = seen[-2:]
            frames = torch.arange(T)
            assert [bool((layer_before != layer_after)[:, t].any()) for t in frames] == [
                t == changed for t in frames
            ]
            assert torch.equal(before[:, :changed], after[:, :changed])
            assert not torch.equal(before[:, changed], after[:, changed])
    finally:
        handle.remove()


def test_no_frame_reaches_an_earlier_one_and_all_reach_the_next(pair: tuple[nn.Module, World]) -> None:
    _, world = pair
    latents, level, conditions = random_call()
    before = world(latents, level, **conditions)
    for changed in range(T):
        other = latents.clone()
        other[:, changed] += 1
        after = world(other, level, **conditions)
        assert torch.equal(before[:, :changed], after[:, :changed])
        for t in range(changed, T):
            assert not torch.equal(before[:, t], after[:, t])


def test_inputs_of_verify_fit_a_model_of_four_levels() -> None:
    world = tiny_world("dynamicrafter", {"channel_mult": [1, 1, 1, 1], "attention_resolutions": [8]})
    for size in (latent_size(world), latent_size(world, oblong=True)):
        inputs = random_inputs(world, 1, 2, seed=0, size=size)
        assert world(**inputs).shape == inputs["latents"].shape == (1, 2, 4, *size)
    assert size == (8, 16)


def test_every_mixing_site_is_changed_and_no_spatial_layer() -> None:
    plan = plan_for("DynamiCrafterUNet")
    with torch.device("meta"):
        model = DynamiCrafterUNet()
    sites = resolve(plan, dict(model.config)).sites
    assert {name for name, m in model.named_modules() if isinstance(m, nn.Conv3d)} == {
        name for name, operation in sites.items() if operation.name == "causal_conv"
    }
    temporal = [n for n, m in model.named_modules() if type(m).__name__ == "TemporalTransformer"]
    assert len(temporal) == 17 and "init_attn.0" in temporal
    assert {
        f"{n}.transformer_blocks.0.{attention}" for n in temporal for attention in ("attn1", "attn2")
    } == {name for name, operation in sites.items() if operation.name == "causal_attention"}
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.GroupNorm)}
    in_time = {n for n in norms if ".temopral_conv." in n or n.removesuffix(".norm") in temporal}
    assert in_time == {name for name, operation in sites.items() if operation.name == "frame_norm"}
    assert "out.2" not in sites and isinstance(model.get_submodule("out.2"), nn.Conv2d)

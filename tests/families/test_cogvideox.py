import pytest
import torch
from diffusers.models.transformers.transformer_easyanimate import EasyAnimateRotaryPosEmbed
from torch import nn

from tests.tiny import tiny_folded
from v2w_convert.errors import V2WError
from v2w_convert.families.cogvideox import covered
from v2w_convert.plan.call import call_base
from v2w_convert.world.model import World


@pytest.mark.parametrize("grid", [(30, 45), (4, 4), (60, 20), (20, 60), (31, 45), (7, 13)])
def test_a_grid_covers_what_diffusers_says(grid: tuple[int, int]) -> None:
    """EasyAnimate's model has the function that CogVideoX's pipeline has."""
    rope = EasyAnimateRotaryPosEmbed(2, [16])
    assert covered(grid, (30, 45)) == rope.get_resize_crop_region_for_grid(grid, 45, 30)


def learned() -> tuple[World, nn.Module]:
    """A world, and its base, whose table of positions is not what it is initialised to."""
    world, base = tiny_folded("cogvideox-i2v")
    table = base.get_buffer("patch_embed.pos_embedding")
    table += torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
    world.base.load_state_dict(base.state_dict(), strict=False)
    return world, base


@pytest.mark.parametrize("frames", [13, 6])
def test_learned_positions_are_those_of_a_whole_clip_and_sines_those_of_a_shorter_one(frames: int) -> None:
    world, base = learned()
    call, config = world.resolved.call, world.resolved.config
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, frames, 4, config["sample_height"], config["sample_width"], generator=generator)
    text = torch.randn(1, 3, 8, generator=generator)
    picture = torch.randn(1, frames, 4, *latents.shape[-2:], generator=generator)
    given = {"text": text, "image_latents": picture}
    with torch.no_grad():
        expected = call_base(base, call, latents, torch.tensor([300.0]), given)
        output = world(latents, torch.full((1, frames), 300.0), bidirectional=True, **given)
    assert (output - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_a_causal_pass_has_learned_positions_whatever_its_length() -> None:
    world, _ = learned()
    h, w = world.resolved.config["sample_height"], world.resolved.config["sample_width"]
    latents = torch.randn(1, 13, 4, h, w, generator=torch.Generator().manual_seed(1))
    level = torch.full((1, 13), 300.0)
    with torch.no_grad():
        whole, part = world(latents, level), world(latents[:, :6], level[:, :6])
    assert (whole[:, :6] - part).abs().max() <= 1e-6 * whole.abs().max()


def test_learned_positions_are_of_one_size_of_frames() -> None:
    world, _ = learned()
    with pytest.raises(V2WError, match="latents are 8 x 8, and positions are learned for 4 x 8 alone"):
        world(torch.zeros(1, 2, 4, 8, 8), torch.zeros(1, 2))

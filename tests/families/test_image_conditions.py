"""What the functions of `image_conditions` have in common. `tests/verification/claims/test_pipeline.py` has the values."""

import numpy as np
import pytest
import torch

from tests.families.pipeline_cases import PICTURE, WAN, Case
from tests.lvdm import tiny_autoencoder as tiny_picture_autoencoder
from tests.tiers import slow_except
from tests.tiny import tiny_resolved, tiny_world
from v2w_convert.errors import V2WError
from v2w_convert.families import IMAGE_CONDITIONS
from v2w_convert.plan.call import ImageConditions
from v2w_convert.world.vae import VAE

FRAMES = 3
PIXELS = np.random.RandomState(0).randint(0, 256, (64, 96, 3), dtype=np.uint8)
CASES = {**PICTURE, "dynamicrafter": Case("dynamicrafter", vae="AutoencoderKL")}


def function(case: Case) -> ImageConditions:
    found = tiny_resolved(case.plan, case.config).call.image_conditions
    assert found is not None
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", slow_except({"dynamicrafter", "hunyuan-video-15, image to video"}, CASES))
def test_there_is_one_for_each_latent_frame_and_the_same_every_time(name: str) -> None:
    case = CASES[name]
    vae = case.autoencoder()
    assert vae is not None
    make = function(case)
    made = make(vae, PIXELS, FRAMES)
    assert made.keys() == make.conditions.keys()
    world = tiny_world(case.plan, case.config)
    for key, x in made.items():
        assert x.shape[0] == FRAMES and x.dtype == torch.float32 and bool(x.isfinite().all())
        assert make.conditions[key].shape(*x.shape[-2:]) == tuple(x.shape[1:])
        assert torch.equal(make(vae, torch.from_numpy(PIXELS), FRAMES)[key], x)
        assert make(vae, PIXELS, 1)[key].shape == (1, *x.shape[1:])
        other = 255 - PIXELS
        changed = make(vae, other, FRAMES)[key]
        assert torch.equal(changed, x) == (make.name in ("cosmos", "kandinsky5"))  # a mask alone
    h, w = next(iter(made.values())).shape[-2:]
    latents = torch.zeros(1, world.resolved.frames(FRAMES), world.channels, h, w)
    level = torch.full(latents.shape[:2], 0.5 * world.noise.max_level)
    output = world(latents, level, **{key: x[None] for key, x in made.items()})
    assert bool(output.isfinite().all())


def test_every_function_is_tried() -> None:
    assert {function(case).name for case in CASES.values()} == IMAGE_CONDITIONS.keys()


def test_another_familys_autoencoder_is_refused() -> None:
    make = function(Case("wan", WAN | {"in_channels": 20, "out_channels": 8}))
    with pytest.raises(V2WError, match=r"image_latents would have 5 channels, the base takes 12"):
        make(VAE(tiny_picture_autoencoder(), {}), PIXELS, 1)


def test_noise_on_the_picture_is_the_callers() -> None:
    case = PICTURE["stable-video-diffusion"]
    vae, make = case.autoencoder(), function(case)
    assert vae is not None
    a, b = (make(vae, PIXELS, 1, torch.Generator().manual_seed(seed))["image_latents"] for seed in (1, 2))
    assert not torch.equal(a, b)


def test_hunyuan_video_15_has_no_lettering_where_none_is_given() -> None:
    """Its pipeline's second prompt is what the first one has in quotes."""
    from types import SimpleNamespace

    from diffusers import HunyuanVideo15Pipeline

    nulls = tiny_resolved("hunyuan-video-15").call.null_conditions()
    encoder = SimpleNamespace(config=SimpleNamespace(d_model=8), dtype=torch.float32)
    text, mask = HunyuanVideo15Pipeline._get_byt5_prompt_embeds(None, encoder, "a cat", torch.device("cpu"))
    assert torch.equal(nulls["text_2"], text[0])
    assert torch.equal(nulls["text_mask_2"], mask[0])

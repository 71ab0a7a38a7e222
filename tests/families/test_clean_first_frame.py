"""Pipelines that keep a given first frame clean and tell the base so, token by token: a world does it frame by frame."""

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from tests.autoencoders import tiny_autoencoder
from tests.tiny import tiny_folded
from v2w_convert.console import quiet_libraries
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.pipelines import NO_TEXT, flow
from v2w_convert.verification.engine.recorded_pipeline import Arguments, Mode, Recorded, Recorder, frames_of
from v2w_convert.world.model import World

HEIGHT, WIDTH = 64, 96
PICTURE = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(0))


def recorded(
    world: World, name: str, autoencoder: Any, arguments: dict[str, Any], **parts: Any
) -> tuple[Arguments, Tensor]:
    """What the pipeline gives the base, and the prompt."""
    from PIL import Image

    shape = world.resolved.call.conditions["text"].shape(tokens=3)
    text = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    picture = Image.fromarray(PICTURE.to(torch.uint8).numpy())
    with quiet_libraries():
        pipeline = getattr(diffusers, name)(
            **NO_TEXT,
            vae=Mode(autoencoder),
            transformer=Recorder(world.resolved.base),
            scheduler=flow(),
            **parts,
        )
        pipeline.set_progress_bar_config(disable=True)
        try:
            pipeline(
                image=picture, prompt_embeds=text, height=HEIGHT, width=WIDTH, num_inference_steps=2,
                guidance_scale=1.0, generator=torch.Generator().manual_seed(2), **arguments,
            )  # fmt: skip
        except Recorded as found:
            return found.arguments, text
    raise AssertionError


MASK = torch.ones(1, 3, dtype=torch.int64)
PIPELINES: dict[str, tuple[str, str, str, dict[str, Any], dict[str, Any]]] = {
    "ltx-video": (
        "ltx-video",
        "LTXImageToVideoPipeline",
        "AutoencoderKLLTXVideo",
        {"num_frames": 17, "prompt_attention_mask": MASK},
        {},
    ),
    "wan 2.2 5B": (
        "wan",
        "WanImageToVideoPipeline",
        "AutoencoderKLWan",
        {"num_frames": 9},
        {"image_encoder": None, "image_processor": None, "expand_timesteps": True},
    ),
    "sana-video": (
        "sana-video",
        "SanaImageToVideoPipeline",
        "AutoencoderKLWan",
        {"frames": 9, "prompt_attention_mask": MASK, "use_resolution_binning": False, "prompt": None},
        {},
    ),
}


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["wan 2.2 5B", *(pytest.param(n, marks=pytest.mark.slow) for n in ("ltx-video", "sana-video"))]
)
def test_a_clean_first_frame_is_told_as_the_pipeline_tells_it(name: str) -> None:
    plan, pipeline, vae, arguments, parts = PIPELINES[name]
    world, base = tiny_folded(plan)
    call = world.resolved.call
    assert call.image_conditions is None  # the picture is the clip's first frame, nothing more
    theirs, text = recorded(world, pipeline, tiny_autoencoder(vae), arguments, **parts)
    theirs |= call.constants  # of the released autoencoder, which compresses more than a tiny one
    latents = frames_of(theirs, call).double()
    told = theirs[call.noise_level].double()
    highest = float(told.max())
    frames = latents.shape[1]
    level = torch.full((1, frames), highest / 1000, dtype=torch.float64)
    level[:, 0] = 0
    tokens = told.flatten().unflatten(0, (frames, -1))
    assert torch.equal(tokens, world.noise.timestep(level)[0][:, None].expand_as(tokens))

    given = {"text": text.double()}
    if "text_mask" in call.conditions:
        given["text_mask"] = MASK
    exactly = {
        key: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for key, x in theirs.items()
    }
    with exact():
        [output] = base.double()(**{**exactly, "return_dict": False})
        found = world.double()(latents, level, bidirectional=True, **given)
    expected = frames_of({**theirs, call.argument: output}, call)
    assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())

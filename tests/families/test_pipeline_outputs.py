"""A converted model in its bidirectional form against the base, called as diffusers' own pipeline calls it."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from tests.families.pipeline_cases import PICTURE, TEXT, Case
from tests.tiers import slow_except
from tests.tiny import tiny_folded
from v2w_convert.verification.claims.pipeline import FRAMES, SIZE, embedding
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.recorded_pipeline import frames_of, record_pipeline

CLOSE = (
    1e-4  # of the largest value, in float32; frames are folded in one, and tables computed in another order
)
FAST = {
    "kandinsky-5",
    "i2vgen-xl",
    "hunyuan-video-15, image to video",
    "wan 2.1, image to video",
    "cogvideox-15, image to video",
}


@torch.no_grad()
@pytest.mark.parametrize("name", slow_except(FAST, {**TEXT, **PICTURE}))
def test_the_output_is_that_of_the_base_called_by_its_pipeline(name: str) -> None:
    case: Case = {**TEXT, **PICTURE}[name]
    world, base = tiny_folded(case.plan, case.config)
    call, vae = world.resolved.call, case.autoencoder()
    generator = torch.Generator().manual_seed(0)
    given = {
        key: embedding(condition, generator)
        for key, condition in call.conditions.items()
        if not condition.is_per_frame
    }
    frames = world.resolved.frames(FRAMES)
    picture = torch.randint(0, 256, (*SIZE, 3), generator=generator, dtype=torch.uint8)
    theirs = record_pipeline(
        world.resolved, given, frames, SIZE, vae, picture if call.image_conditions else None
    )
    made = {}
    if call.image_conditions is not None and vae is not None:
        made = {key: x[None] for key, x in call.image_conditions(vae, picture, frames).items()}

    world, base = world.double(), base.double()
    theirs, given, made = tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, (theirs, given, made)
    )
    latents = frames_of(theirs, call)[:, :, : call.channels]
    level = torch.full(latents.shape[:2], 0.5 * world.noise.max_level, dtype=torch.float64)
    scale = world.noise.model_input(torch.ones_like(latents), level)
    timestep = world.noise.timestep(level)[:, 0]
    with exact():
        output = base(**{**theirs, call.noise_level: timestep, "return_dict": False})
        found = world(latents / scale, level, bidirectional=True, **given, **made)
    output = output[0] if isinstance(output, tuple) else output
    expected = frames_of({**theirs, call.argument: output}, call)[:, :, : call.channels]

    assert float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max())

    once = {  # what the pipeline lays out itself
        key: x[:, 0] for key, x in made.items() if call.conditions[key].later_frames != "own"
    }
    if once:
        with exact():
            again = world(latents / scale, level, bidirectional=True, **given, **once)
        assert torch.equal(again, found)

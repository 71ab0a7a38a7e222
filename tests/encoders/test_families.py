"""Embeddings are those that each family's own pipeline gives its denoiser."""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.encoders.pipelines import PICTURED, PROMPTED, Family
from tests.tiny import tiny_resolved
from v2w_convert.console import quiet_libraries
from v2w_convert.encoders.families import PICTURES, PROMPTS, REASONS
from v2w_convert.encoders.picture import picture_encoder
from v2w_convert.encoders.prompt import encode_prompts
from v2w_convert.plan.call import Conditions
from v2w_convert.plan.read import shipped_plans

CPU = torch.device("cpu")
EPS = torch.finfo(torch.float32).eps
FAST = {"WanPipeline", "StableVideoDiffusionPipeline"}


def cases(families: list[Family]) -> list[Any]:
    return [
        pytest.param(f, id=f"{f.pipeline}{i}", marks=() if f.pipeline in FAST else pytest.mark.slow)
        for i, f in enumerate(families)
    ]


@pytest.mark.parametrize("family", cases(PROMPTED))
@pytest.mark.parametrize("prompt", ["", 'a red ball "b"'])
def test_a_prompt_is_what_the_pipeline_gives_its_denoiser(
    family: Family, prompt: str, tmp_path: Path
) -> None:
    resolved = tiny_resolved(family.plan, family.config)
    with quiet_libraries():
        given = family.given(prompt=prompt)
        [found] = encode_prompts(family.save(tmp_path / "base"), resolved, [prompt], CPU)
    require_equal(resolved, found, given)
    assert "text" in found


@pytest.mark.parametrize("family", cases(PICTURED))
def test_a_picture_is_what_the_pipeline_gives_its_denoiser(family: Family, tmp_path: Path) -> None:
    resolved = tiny_resolved(family.plan, family.config)
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    size = {"height": 32, "width": 64}
    with quiet_libraries():
        pipeline = family.build()
        if hasattr(pipeline, "target_size"):  # it chooses a size: here that of the data
            height, width = pipeline.video_processor.calculate_default_height_width(
                height=32, width=64, target_size=pipeline.target_size
            )
            picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        prompt = {"prompt": "a"} if "prompt" in inspect.signature(type(pipeline).__call__).parameters else {}
        given = family.given(image=Image.fromarray(picture), **prompt, **size)
        with picture_encoder(family.save(tmp_path / "base"), resolved, CPU) as encode:
            found = encode(picture)
    require_equal(resolved, found, given)


def require_equal(resolved: Any, found: Conditions, given: dict[str, Any]) -> None:
    """Up to rounding, which depends on where in memory weights lie; of the batch the last, which is not guidance's."""
    assert found
    for name, value in found.items():
        argument = given[resolved.call.conditions[name].argument][-1]
        difference = (argument.double().reshape(value.shape) - value.double()).abs().max()
        assert difference <= 4 * EPS * value.double().abs().max(), name


def test_the_tables_name_pipelines_of_diffusers_and_every_plan_is_served_or_says_why() -> None:
    ours = {"DynamiCrafterPipeline", "Vid2WorldPipeline"}
    for name in PROMPTS.keys() | PICTURES.keys() | REASONS.keys() - ours:
        assert hasattr(diffusers, name), name
    assert not PROMPTS.keys() & REASONS.keys()
    served = {family.plan for family in PROMPTED + PICTURED}
    alike = {"cogvideox-2b": "cogvideox", "cogvideox-15": "cogvideox"}
    unproven = {"dynamicrafter", "vid2world", "vid2world-repaired", "kandinsky-5"}
    assert {alike.get(name, name) for name in shipped_plans()} == served | unproven

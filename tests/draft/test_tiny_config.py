from typing import Any

import pytest
import torch
from torch import nn

from tests.families.published import PUBLISHED
from v2w_convert.draft.tiny_config import head_width, smaller_configs
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.plan.read import read_plan, shipped_plans


def whole(name: str) -> tuple[str, dict[str, Any]]:
    base = read_plan(shipped_plans()[name]).base
    with torch.device("meta"):
        return base, complete_config(build_model(base, PUBLISHED[name][0]))


def size(base: str, config: dict[str, Any]) -> int:
    with torch.device("meta"):
        model: nn.Module = build_model(base, config)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "name", ["wan", "hunyuan-video", "kandinsky-5", "ltx-video", "sana-video", "unet-3d"]
)
def test_a_published_size_becomes_small_and_keeps_its_heads(name: str) -> None:
    base, config = whole(name)
    small = next(smaller_configs(config))
    assert size(base, small) < 0.01 * size(base, config)
    assert head_width(small) == head_width(config)
    for key in ("in_channels", "out_channels", "patch_size", "rope_axes_dim", "axes_dims"):
        assert small.get(key) == config.get(key)


def test_widths_that_were_equal_stay_equal() -> None:
    _, config = whole("ltx-video")
    assert config["cross_attention_dim"] == config["num_attention_heads"] * config["attention_head_dim"]
    small = next(smaller_configs(config))
    assert small["cross_attention_dim"] == small["num_attention_heads"] * small["attention_head_dim"]
    assert small["caption_channels"] != small["cross_attention_dim"]


def test_the_last_candidate_is_the_config_itself() -> None:
    _, config = whole("wan")
    assert list(smaller_configs(config))[-1] == config

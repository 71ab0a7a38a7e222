import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.transformers import transformer_cosmos

from v2w_convert.errors import V2WError
from v2w_convert.families import cosmos
from v2w_convert.families.build import build_model
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.world.model import World


def world() -> World:
    """With a mask, as released models have it."""
    plan = read_plan(shipped_plans()["cosmos"])
    config = {**plan.tiny, "_class_name": plan.base, "concat_padding_mask": True}
    torch.manual_seed(0)
    base, resolved = build_model(plan.base, config).eval(), resolve(plan, config)
    apply_surgery(resolved, base, 3, seed=0)
    return World(base, resolved, 3, resolved.call.null_conditions())


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is here")
def test_what_diffusers_lacks_is_said() -> None:
    with pytest.raises(V2WError, match="torchvision, which is not installed"):
        world()(torch.randn(1, 3, 4, 4, 8), torch.full((1, 3), 0.5))


def test_released_models_are_given_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the one function of torchvision that diffusers calls here in torch's own words: the nearest pixel."""

    def resize(mask: torch.Tensor, size: list[int], interpolation: Any) -> torch.Tensor:
        return F.interpolate(mask, size=size, mode="nearest")

    functional, modes = SimpleNamespace(resize=resize), SimpleNamespace(NEAREST="nearest")
    monkeypatch.setattr(
        transformer_cosmos,
        "transforms",
        SimpleNamespace(functional=functional, InterpolationMode=modes),
        raising=False,
    )
    monkeypatch.setattr(cosmos, "is_torchvision_available", lambda: True)
    output = world()(torch.randn(2, 3, 4, 4, 8), torch.full((2, 3), 0.5))
    assert output.shape == (2, 3, 4, 4, 8)
    assert bool(output.isfinite().all())

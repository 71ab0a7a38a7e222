import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.transformers import transformer_cosmos

from tests.tiny import tiny_world
from v2w_convert.errors import V2WError
from v2w_convert.families import cosmos
from v2w_convert.world.model import World


def world() -> World:
    """With a padding mask, as released models have it."""
    return tiny_world("cosmos", {"concat_padding_mask": True})


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is here")
def test_a_missing_torchvision_is_named() -> None:
    with pytest.raises(V2WError, match="torchvision, which is not installed"):
        world()(torch.randn(1, 3, 4, 4, 8), torch.full((1, 3), 0.5))


def test_released_models_receive_the_padding_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the one function of torchvision that diffusers calls here replaced by torch's: the nearest pixel."""

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

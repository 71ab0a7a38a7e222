"""Sizes of the pictures that claims are measured on."""

from types import SimpleNamespace
from typing import Any

import pytest

from v2w_convert.verification.engine.inputs import latent_size
from v2w_convert.verification.engine.manners import other_sizes


@pytest.mark.parametrize(
    ("channels", "size", "oblong"),
    [((32, 64), (4, 8), (4, 8)), ((32, 64, 64), (4, 8), (4, 8)), ((320, 640, 1280, 1280), (8, 8), (8, 16))],
)
def test_only_deep_models_are_given_squares(
    channels: tuple[int, ...], size: tuple[int, int], oblong: tuple[int, int]
) -> None:
    world: Any = SimpleNamespace(resolved=SimpleNamespace(config={"block_out_channels": channels}))
    assert latent_size(world) == size
    assert latent_size(world, oblong=True) == oblong
    assert [h > w for h, w in other_sizes(world, brief=True)] == [True]

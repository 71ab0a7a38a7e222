from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from v2w_convert.checkpoint.open import open_source
from v2w_convert.surgery.load import open_converted
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims.weights import group_of, measure_weights

KERNEL = "mid_block.resnets.0.temporal_res_block.conv1.weight"
MATRIX = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


def measured(folder: Path, base: Path) -> Claim:
    _, source, resolved = open_converted(folder)
    return measure_weights(open_source(base), source, resolved)


def test_weights_that_were_not_trained_are_at_no_distance(tiny_converted: Path, tiny_base: Path) -> None:
    claim = measured(tiny_converted, tiny_base)
    assert (claim.status, claim.measured, claim.where) == ("figure", 0.0, "")


def test_trained_weights_are_near_and_none_is_named(finetuned: Path, tiny_base: Path) -> None:
    claim = measured(finetuned, tiny_base)
    assert claim.measured is not None and 0 < claim.measured < 0.2
    assert claim.where == ""
    assert "mid_block.attentions.0 0." in claim.how


@pytest.mark.parametrize("size", [0.0, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("name", [KERNEL, MATRIX])
def test_noise_of_any_size_is_named(
    rewritten: Callable[..., Path], tiny_base: Path, name: str, size: float
) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        if name in tensors:
            x = tensors[name].float()
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
            tensors[name] = (size * x.std() * noise).to(tensors[name].dtype)

    assert measured(rewritten(spoil), tiny_base).where == name


def test_groups() -> None:
    assert group_of("blocks.3.attn1.to_q.weight") == "blocks.3"
    assert group_of("mid_block.resnets.0.conv.1.weight") == "mid_block.resnets.0"
    assert group_of("time_embedding.linear.weight") == "time_embedding"

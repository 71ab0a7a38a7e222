from pathlib import Path

import pytest
import torch
from torch import nn

from tests.autoencoders import tiny_autoencoder
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims.autoencoder import measure_autoencoder, modules_looking_ahead


def measured(name: str, folder: Path) -> tuple[dict[str, Claim], dict]:
    tiny_autoencoder(name).save_pretrained(folder / "vae")
    claims, figures = measure_autoencoder(folder)
    assert figures is not None
    return {claim.id: claim for claim in claims}, figures


def test_one_that_looks_back_only(tmp_path: Path) -> None:
    claims, figures = measured("AutoencoderKLWan", tmp_path)
    assert [claim.measured for claim in claims.values()] == [0.0, 0.0]
    assert "may be encoded" in claims["autoencoder-encode"].how
    assert "as soon as their latents are generated" in claims["autoencoder-decode"].how
    encode, decode = (torch.tensor(figures[way]["influence"]) for way in ("encode", "decode"))
    assert (encode.shape, decode.shape) == ((3, 9), (9, 3))
    # The first picture alone, then four to a latent frame: none is left out, none comes early.
    assert (encode[0, :1] > 0).all()
    assert (encode[0, 1:] == 0).all()
    assert (encode[1, :5] > 0).all()
    assert (encode[1, 5:] == 0).all()
    assert (decode[:1, 1:] == 0).all()
    assert (decode[1:5, 1] > 0).all()


def test_one_whose_norms_look_ahead_both_ways(tmp_path: Path) -> None:
    claims, figures = measured("AutoencoderKLCogVideoX", tmp_path)
    for way in ("encode", "decode"):
        claim = claims[f"autoencoder-{way}"]
        assert claim.ok  # a figure: finetuning may use it all the same
        assert claim.measured is not None
        assert claim.measured > 1e-3
        assert all("(GroupNorm)" in module for module in figures[way]["modules"])
        assert "norms over the clip" in claim.how
    assert "encode prefixes only" in claims["autoencoder-encode"].how
    assert claims["autoencoder-encode"].where.startswith("encoder.down_blocks.0.resnets.0.norm1 (GroupNorm)")


def test_one_that_decodes_ahead_by_padding(tmp_path: Path) -> None:
    claims, figures = measured("AutoencoderKLLTXVideo", tmp_path)
    assert claims["autoencoder-encode"].measured == 0.0
    assert figures["encode"]["modules"] == []
    assert claims["autoencoder-decode"].where.startswith("decoder.conv_in (LTXVideoCausalConv3d)")


def test_one_that_encodes_frame_by_frame(tiny_base: Path) -> None:
    claims, figures = measure_autoencoder(tiny_base)
    assert [claim.measured for claim in claims] == [0.0, 0.0]
    assert all("by construction" in claim.how for claim in claims)
    assert figures is not None
    assert figures["class"] == "AutoencoderKL"


@pytest.mark.parametrize(
    ("config", "why"), [(None, "beside the model"), ('{"_class_name": "AutoencoderDC"}', "AutoencoderDC")]
)
def test_without_an_autoencoder_nothing_is_measured(config: str | None, why: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "vae").mkdir()
        (tmp_path / "vae" / "config.json").write_text(config)
    claims, figures = measure_autoencoder(tmp_path)
    assert figures is None
    assert all(claim.measured is None and why in claim.how for claim in claims)


def test_the_innermost_module_that_looks_ahead_is_named() -> None:
    class Flipped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x.flip(2)

    model = nn.Sequential(
        nn.Conv3d(2, 2, 1), nn.Sequential(nn.Identity(), Flipped()), nn.Conv3d(2, 2, (3, 1, 1))
    )
    with torch.no_grad():
        assert modules_looking_ahead(model, lambda: model(torch.randn(1, 2, 5, 4, 4))) == ["1.1 (Flipped)"]

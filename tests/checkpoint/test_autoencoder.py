"""An LDM's autoencoder under diffusers' names: a diffusers one renamed the other way comes back bit for bit."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import save_file

from tests.lvdm import as_ldm, tiny_autoencoder
from v2w_convert.checkpoint.autoencoder import to_diffusers
from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.source import read_tensor


@pytest.mark.parametrize("widths", [[32], [32, 64], [32, 64, 64, 96]])
@pytest.mark.parametrize("depth", [1, 2])
def test_an_ldm_autoencoder_is_renamed_back_bit_for_bit(
    tmp_path: Path, widths: list[int], depth: int
) -> None:
    model = tiny_autoencoder(block_out_channels=widths, layers_per_block=depth)
    state = model.state_dict()
    old = as_ldm(state)
    assert not any(re.search("resnets|blocks|to_q|samplers", name) for name in old)
    save_file(old, tmp_path / "vae.safetensors")
    config, tensors = to_diffusers(read_header(tmp_path / "vae.safetensors"))
    again = AutoencoderKL.from_config(config)
    again.load_state_dict({name: read_tensor(info) for name, info in tensors.items()})
    assert again.config.scaling_factor == 0.18215
    assert state.keys() == again.state_dict().keys()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(pixels).sample, again.eval()(pixels).sample)
    # diffusers' own table of the same names
    theirs = convert_ldm_vae_checkpoint({f"first_stage_model.{name}": t for name, t in old.items()}, config)
    assert theirs.keys() == tensors.keys()
    assert all(torch.equal(theirs[name], state[name]) for name in theirs)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    old = as_ldm(tiny_autoencoder().state_dict())
    del old["decoder.conv_out.weight"]
    save_file(old, tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="decoder.conv_out.weight missing"):
        to_diffusers(read_header(tmp_path / "vae.safetensors"))

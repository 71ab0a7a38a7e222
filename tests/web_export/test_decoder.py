"""The decoder's graph: an upsampling and its convolution in one."""

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.upsampling import Upsample2D

from v2w_convert.web_export.decoder import Decoder, Doubling
from v2w_convert.world.vae import VAE


def tiny() -> AutoencoderKL:
    torch.manual_seed(0)
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    return AutoencoderKL(**kinds, block_out_channels=[4, 8, 12], latent_channels=3, norm_num_groups=4)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_a_transposed_convolution_is_upsampling_and_convolution(bias: bool) -> None:
    module = Upsample2D(3, use_conv=True, out_channels=5, bias=bias).double()
    x = torch.randn(2, 3, 4, 7, dtype=torch.float64)
    torch.testing.assert_close(Doubling(module.conv)(x), module(x), rtol=0, atol=1e-14)


@torch.no_grad()
def test_a_decoder_gives_the_pictures_of_its_autoencoder() -> None:
    vae = VAE(tiny(), {})
    doubled = [m for m in vae.modules() if isinstance(m, Upsample2D)]
    latents = torch.randn(1, 3, 4, 4)
    decoder = Decoder(vae)
    assert sum(isinstance(m, Doubling) for m in decoder.modules()) == len(doubled) == 2
    assert not [m for m in vae.modules() if isinstance(m, Doubling)]  # it is as it was
    torch.testing.assert_close(decoder(latents), vae.decode(latents[None])[0], rtol=0, atol=1e-6)


def test_other_upsampling_is_left_as_it_is() -> None:
    vae = VAE(tiny(), {})
    for block in vae.autoencoder.decoder.up_blocks:
        for module in block.upsamplers or []:
            module.conv = torch.nn.Conv2d(module.channels, module.channels, 5, padding=2)
    assert not [m for m in Decoder(vae).modules() if isinstance(m, Doubling)]

"""The autoencoder's decoder as a graph: one frame's latents to its picture."""

from copy import deepcopy
from pathlib import Path

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from v2w_convert.console import quiet_libraries
from v2w_convert.errors import V2WError
from v2w_convert.onnx_export.onnx import save
from v2w_convert.world.vae import VAE


class Decoder(nn.Module):
    """Latents (1 c h w), as the denoiser has them, to a picture (1 3 height width) in [0, 1]; as `VAE.decode`."""

    def __init__(self, vae: VAE):
        """Wrap `vae`, whose `single` is true: pictures do not depend on each other."""
        super().__init__()
        self.vae: VAE = deepcopy(vae)
        for name, module in list(self.vae.named_modules()):
            if isinstance(module, Upsample2D) and _doubles(module):
                path, _, last = name.rpartition(".")
                setattr(self.vae.get_submodule(path), last, Doubling(module.conv))

    def forward(self, latents: Tensor) -> Tensor:
        vae: VAE = self.vae
        mean, std = (values[:, 0][None, :, None, None] for values in (vae.mean, vae.std))
        picture: Tensor = vae.autoencoder.decode(latents * std / vae.factor + mean).sample
        return (picture / 2 + 0.5).clamp(0, 1)


class Doubling(nn.Module):
    """Twice as large by nearest neighbours, then a convolution of 3 x 3, in one: a transposed convolution of 4 x 4.

    A pixel of the result depends on 2 x 2 pixels, not on the 9 that the convolution reads: 2.25 times fewer products.
    """

    def __init__(self, conv: nn.Conv2d):
        """Take over the weights of `conv`: 3 x 3, padded by one."""
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            conv.in_channels, conv.out_channels, 4, 2, 1, bias=conv.bias is not None
        )
        # Along one side, the pixels 2i and 2i + 1 are w0 x[i-1] + (w1 + w2) x[i] and (w0 + w1) x[i] + w2 x[i+1].
        summed = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]).to(conv.weight)
        kernel = torch.einsum("ay,bx,oiyx->ioab", summed, summed, conv.weight)
        self.conv.weight = nn.Parameter(kernel, requires_grad=False)
        self.conv.bias = conv.bias

    def forward(self, hidden_states: Tensor, output_size: None = None) -> Tensor:
        larger: Tensor = self.conv(hidden_states)
        return larger


def _doubles(module: Upsample2D) -> bool:
    """Whether `Doubling` computes the same."""
    plain = (
        module.interpolate and not module.use_conv_transpose and module.norm is None and module.name == "conv"
    )
    conv = module.conv if plain else None
    like = ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    return isinstance(conv, nn.Conv2d) and like == (
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.padding_mode,
    )


def require_single(vae: VAE) -> None:
    """Check that pictures can be decoded one by one.

    Raises:
        V2WError: They cannot.
    """
    if not vae.single:
        raise V2WError(
            "export a page",
            f"its autoencoder, {type(vae.autoencoder).__name__}, decodes several frames together",
            "v2w rollout, or a world with an AutoencoderKL",
        )


def write_decoder(vae: VAE, size: tuple[int, int, int], file: Path) -> None:
    """Write the graph `latents` -> `picture`, for latents of size (c, h, w)."""
    with quiet_libraries():
        program = torch.onnx.export(
            Decoder(vae).eval(),
            (torch.zeros(1, *size),),
            dynamo=True,
            input_names=["latents"],
            output_names=["picture"],
            verbose=False,
        )
    assert program is not None
    save(program, file)

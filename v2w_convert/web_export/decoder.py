"""The autoencoder's decoder as a graph: one frame's latents to its picture."""

from pathlib import Path

import torch
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
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        vae = self.vae
        mean, std = (values[:, 0][None, :, None, None] for values in (vae.mean, vae.std))
        picture: Tensor = vae.autoencoder.decode(latents * std / vae.factor + mean).sample
        return (picture / 2 + 0.5).clamp(0, 1)


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

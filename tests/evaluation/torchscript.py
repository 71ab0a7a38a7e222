"""TorchScript files that are called as the published ones are."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class Lpips(nn.Module):
    """Half the mean squared difference of frames in [-1, 1]; (n 1 1 1), as lpips returns."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert a.min() >= -1 and a.max() <= 1
        return ((a - b) ** 2).mean(dim=[1, 2, 3], keepdim=True) / 2


class DreamSim(nn.Module):
    """(n,), of frames of 224 by 224."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert a.shape[2] == 224 and a.shape[3] == 224 and a.min() >= 0 and a.max() <= 1
        return (a - b).abs().mean(dim=[1, 2, 3])


class Inception(nn.Module):
    """Colours' means and squares."""

    def forward(self, frames: Tensor, return_features: bool = False) -> Tensor:
        assert frames.dtype == torch.uint8 and return_features
        x = frames.float() / 255
        return torch.cat([x.mean(dim=[2, 3]), (x**2).mean(dim=[2, 3])], 1)


class I3D(nn.Module):
    """Colours' means and changes."""

    def forward(
        self, clips: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        assert not rescale and not resize and return_features
        assert clips.shape[1] == 3 and clips.shape[3] == 224 and clips.shape[4] == 224
        assert clips.min() >= -1 and clips.max() <= 1
        return torch.cat(
            [clips.mean(dim=[2, 3, 4]), (clips[:, :, 1:] - clips[:, :, :-1]).abs().mean(dim=[2, 3, 4])], 1
        )


class Pooled(nn.Module):
    """Features of any kind."""

    def forward(self, frames: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(frames, 2).flatten(1)


def write(module: nn.Module, path: Path) -> Path:
    """Write `module` as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path

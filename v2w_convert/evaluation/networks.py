"""Published networks that compare frames, from TorchScript files that the user names.

A TorchScript file is a program: one is only read if a setting names it, never because it lies somewhere.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from v2w_convert.errors import V2WError, one_line
from v2w_convert.evaluation.settings import EvaluateSettings

SIDE = 224  # of the pictures that DreamSim and I3D take
PICTURES, CLIPS = 64, 8  # that a network is shown at once


class Network:
    """A TorchScript module, and how one metric calls it. Frames are (n 3 height width) float32 in [0, 1].

    Attributes:
        asked: What it is for, in words, for messages.
    """

    def __init__(self, path: Path, metric: str, device: torch.device):
        """Read the file.

        Raises:
            V2WError: It is not there, or not TorchScript.
        """
        self.asked = f"measure {metric} with {path}"
        self.device = device
        if not path.is_file():
            raise V2WError(self.asked, "no such file", "check the path")
        try:
            with warnings.catch_warnings():  # deprecated in torch 2.13; what is published has this format
                warnings.simplefilter("ignore", DeprecationWarning)
                self.module: Any = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise V2WError(self.asked, f"not a TorchScript file ({one_line(error)})") from None

    def _call(self, n: int, *inputs: Tensor, **options: bool) -> Tensor:
        """Outputs (n d) of the module."""
        try:
            with torch.no_grad():
                found = self.module(*(each.to(self.device) for each in inputs), **options)
        except (RuntimeError, ValueError, TypeError) as error:
            said = one_line(error)
            raise V2WError(
                self.asked, f"the network cannot be called: {said}", "the file that the documentation names"
            ) from None
        if not isinstance(found, Tensor) or found.shape[:1] != (n,):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise V2WError(self.asked, f"it returns {shape} for {n} samples", f"a tensor ({n}, …)")
        found = found.detach().reshape(n, -1).float().cpu()
        if not found.isfinite().all():
            raise V2WError(self.asked, "it returns numbers that are not finite")
        return found


class Distance(Network):
    """A distance between two pictures."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (n,) of pairs of frames."""
        pairs = zip(a.split(PICTURES), b.split(PICTURES), strict=True)
        return torch.cat([self._distance(*pair) for pair in pairs])

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        found = self._call(len(a), self._prepared(a), self._prepared(b))
        if found.shape[1] != 1:
            raise V2WError(self.asked, f"it returns {found.shape[1]} numbers for a pair", "one distance")
        return found[:, 0]

    def _prepared(self, frames: Tensor) -> Tensor:
        raise NotImplementedError


class LPIPS(Distance):
    """LPIPS (Zhang et al. 2018), as the package lpips calls it: frames in [-1, 1] at their own size."""

    def _prepared(self, frames: Tensor) -> Tensor:
        return frames * 2 - 1


class DreamSim(Distance):
    """DreamSim (Fu et al. 2023), as the package dreamsim calls it: frames in [0, 1], 224 by 224 by cubic filtering."""

    def _prepared(self, frames: Tensor) -> Tensor:
        resized: Tensor = interpolate(frames, (SIDE, SIDE), mode="bicubic", antialias=True)
        return resized.clamp(0, 1)


class Features(Network):
    """Features of frames (n t 3 height width)."""

    def __call__(self, clips: Tensor) -> Tensor:
        """Features (m d) of `clips`, one for each frame."""
        return torch.cat([self._features(frames) for frames in clips.flatten(0, 1).split(PICTURES)])

    def _features(self, frames: Tensor) -> Tensor:
        return self._call(len(frames), frames)


class Inception(Features):
    """FID's, as StyleGAN calls inception-2015-12-05.pt: frames of whole numbers up to 255, which it resizes itself."""

    def _features(self, frames: Tensor) -> Tensor:
        whole = (frames * 255).round().to(torch.uint8)
        return self._call(len(frames), whole, return_features=True)


class I3D(Features):
    """FVD's, as StyleGAN-V calls i3d_torchscript.pt: clips (n 3 t 224 224) in [-1, 1], the middle of a linear enlargement."""

    LEAST = 10  # frames that it takes

    def __call__(self, clips: Tensor) -> Tensor:
        """Features (n d), one for each clip."""
        return torch.cat([self._clip_features(some) for some in clips.split(CLIPS)])

    def _clip_features(self, clips: Tensor) -> Tensor:
        height, width = clips.shape[-2:]
        scale = SIDE / min(height, width)
        size = max(round(height * scale), SIDE), max(round(width * scale), SIDE)
        large = interpolate(clips.flatten(0, 1), size, mode="bilinear", align_corners=False)
        top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        middle = large[..., top : top + SIDE, left : left + SIDE].unflatten(0, clips.shape[:2])
        shown = middle.transpose(1, 2) * 2 - 1
        return self._call(len(clips), shown, rescale=False, resize=False, return_features=True)


def open_distances(settings: EvaluateSettings, device: torch.device) -> dict[str, Distance]:
    """The distances whose files the settings name.

    Raises:
        V2WError: A file is not what it should be.
    """
    found: dict[str, Distance] = {}
    if settings.lpips is not None:
        found["lpips"] = LPIPS(settings.lpips, "LPIPS", device)
    if settings.dreamsim is not None:
        found["dreamsim"] = DreamSim(settings.dreamsim, "DreamSim", device)
    return found


def open_features(settings: EvaluateSettings, device: torch.device) -> dict[str, Features]:
    """The networks whose files the settings name, of whose features a Fréchet distance is measured.

    Raises:
        V2WError: A file is not what it should be, or clips are too short for one.
    """
    found: dict[str, Features] = {}
    if settings.fid is not None:
        found["fid"] = Inception(settings.fid, "FID", device)
    if settings.fvd is not None:
        network = I3D(settings.fvd, "FVD", device)
        if max(settings.horizons) < I3D.LEAST:
            said = f"clips of {max(settings.horizons)} frames; I3D takes {I3D.LEAST} at least"
            raise V2WError(network.asked, said, "--horizons 16")
        found["fvd"] = network
    if settings.frechet is not None:
        found[f"frechet[{settings.frechet.name}]"] = Features(settings.frechet, "a Fréchet distance", device)
    return found


def missing(settings: EvaluateSettings) -> dict[str, str]:
    """What the settings name no file for, and what it takes."""
    files = {
        "lpips": (settings.lpips, "no network (--lpips FILE)"),
        "dreamsim": (settings.dreamsim, "no network (--dreamsim FILE)"),
        "fid": (settings.fid, "no network (--fid inception-2015-12-05.pt)"),
        "fvd": (settings.fvd, "no network (--fvd i3d_torchscript.pt)"),
    }
    return {name: why for name, (path, why) in files.items() if path is None}

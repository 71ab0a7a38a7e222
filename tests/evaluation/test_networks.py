"""Networks in TorchScript files are called as the published ones are; what is not one is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.evaluation import torchscript
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.networks import I3D, LPIPS, DreamSim, Features, Inception

CPU = torch.device("cpu")


def frames(n: int, *sizes: int) -> Tensor:
    return torch.rand(n, *sizes, generator=torch.Generator().manual_seed(n))


def test_distances(tmp_path: Path) -> None:
    a, b = frames(70, 3, 20, 30), frames(71, 3, 20, 30)[1:]  # more than are shown at once
    lpips = LPIPS(torchscript.write(torchscript.Lpips(), tmp_path / "a.pt"), "LPIPS", CPU)
    torch.testing.assert_close(lpips(a, b), 2 * (a - b).square().mean((1, 2, 3)))
    dreamsim = DreamSim(torchscript.write(torchscript.DreamSim(), tmp_path / "b.pt"), "DreamSim", CPU)
    assert dreamsim(a, a).tolist() == [0.0] * 70
    assert dreamsim(a, b).shape == (70,) and dreamsim(a, b).min() > 0


def test_features(tmp_path: Path) -> None:
    clips = frames(9, 11, 3, 32, 40)
    inception = Inception(torchscript.write(torchscript.Inception(), tmp_path / "a.pt"), "FID", CPU)
    found = inception(clips)
    assert found.shape == (99, 6)
    torch.testing.assert_close(found[:, :3], clips.flatten(0, 1).mean((2, 3)), atol=1e-2, rtol=0)
    i3d = I3D(torchscript.write(torchscript.I3D(), tmp_path / "b.pt"), "FVD", CPU)
    constant = clips.mean((3, 4), keepdim=True).expand_as(clips)
    torch.testing.assert_close(i3d(constant)[:, :3], constant.mean((1, 3, 4)) * 2 - 1)
    pooled = Features(torchscript.write(torchscript.Pooled(), tmp_path / "c.pt"), "x", CPU)
    assert pooled(clips).shape == (99, 12)


class Few(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).mean()


class Infinite(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).mean(dim=[1, 2, 3]) / 0.0


class Many(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a, b


def test_what_is_not_a_network_is_refused(tmp_path: Path) -> None:
    a, b = frames(2, 3, 16, 16), frames(3, 3, 16, 16)[1:]

    def said(match: str, path: Path) -> None:
        with pytest.raises(V2WError, match=match):
            LPIPS(path, "LPIPS", CPU)(a, b)

    said(r"measure LPIPS with .*none\.pt: no such file", tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    said("not a TorchScript file", tmp_path / "text.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")  # a state dict is no program
    said("not a TorchScript file", tmp_path / "weights.pt")
    said(r"it returns \(\) for 2 samples", torchscript.write(Few(), tmp_path / "few.pt"))
    said("numbers that are not finite", torchscript.write(Infinite(), tmp_path / "infinite.pt"))
    said("it returns tuple", torchscript.write(Many(), tmp_path / "many.pt"))
    said("the network cannot be called", torchscript.write(torchscript.I3D(), tmp_path / "i3d.pt"))
    said("it returns 768 numbers for a pair", torchscript.write(Two(), tmp_path / "two.pt"))


class Two(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b

"""Norms whose statistics ran over the clip: in the folded model they run over one frame, unless a plan leaves them.

Nothing has to be changed for that; the operation states it, keeps the affine weights, and can take
the base's form again for the identity claim.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import Kept, Operation, gap, whole_clip
from v2w_convert.stream import Site, become


class FrameNorm(Operation):
    """Per-frame statistics where the base's ran over all frames.

    statistics  over one `frame`; or still over the `clip`, by which frames see the future: to measure a model that was
                trained so
    """

    name: ClassVar[str] = "frame_norm"
    statistics: Literal["frame", "clip"] = "frame"

    def refusal(self, module: nn.Module) -> str | None:
        return None if isinstance(module, nn.GroupNorm) else f"is a {type(module).__name__}, not a GroupNorm"

    def install(
        self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None, n: int = 1
    ) -> None:
        become(module, FrameNormSite, name, clip=self.statistics == "clip")

    def promise(self, base: Any, site: Any, generator: torch.Generator, unit: float) -> list[Kept]:
        frame = torch.randn(1, base.num_channels, 1, 4, 5, generator=generator, dtype=torch.float64)
        clip = frame.expand(-1, -1, 5, -1, -1)
        site.current = whole_clip(1, 1)
        one = gap(site(frame), base(frame))
        site.current = whole_clip(1, 5)
        if self.statistics == "clip":
            clip = torch.randn(1, base.num_channels, 5, 4, 5, generator=generator, dtype=torch.float64)
            return [Kept("equals the base", gap(site.frames(site(site.fold(clip))), base(clip)), 0.0)]
        still = gap(site.frames(site(site.fold(clip))), base(clip))
        # Same arithmetic on the same numbers, but sums of five times as many terms.
        largest = float(base(frame).detach().abs().max())
        return [
            Kept("equals the base on one frame", one, 0.0),
            Kept("equals the base on a still clip", still, 1e-12 * max(largest, 1.0)),
        ]


class FrameNormSite(Site):
    """A GroupNorm on ((b t) c n …), statistics per clip of n frames: one frame where n is 1."""

    clip: bool

    def forward(self, x: Tensor) -> Tensor:
        if self.current.bidirectional or self.clip:
            return self.fold(super().forward(self.frames(x)))
        return super().forward(x)

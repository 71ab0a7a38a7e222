"""Norms whose statistics ran over the clip: in the folded model they run over one frame, unless a plan leaves them.

Nothing has to be changed for that; the operation states it, keeps the affine weights, and can take
the base's form again for the identity claim.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.sites import Site, swap_class


class FrameNorm(Operation):
    """Per-frame statistics where the base's ran over all frames.

    statistics  over one `frame`; or still over the `clip`, by which frames see the future: to measure a model that was
                trained so
    """

    name: ClassVar[str] = "frame_norm"
    statistics: Literal["frame", "clip"] = "frame"

    def why_not(self, module: nn.Module) -> str | None:
        return None if isinstance(module, nn.GroupNorm) else f"is a {type(module).__name__}, not a GroupNorm"

    def install(
        self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None, n: int = 1
    ) -> None:
        swap_class(module, FrameNormSite, name, clip=self.statistics == "clip")

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        frame = torch.randn(1, base.num_channels, 1, 4, 5, generator=generator, dtype=torch.float64)
        clip = frame.expand(-1, -1, 5, -1, -1)
        site.context = clip_context(1, 1)
        one = max_abs_diff(site(frame), base(frame))
        site.context = clip_context(1, 5)
        if self.statistics == "clip":
            clip = torch.randn(1, base.num_channels, 5, 4, 5, generator=generator, dtype=torch.float64)
            return [
                Invariant(
                    "equals the base", max_abs_diff(site.frames(site(site.fold(clip))), base(clip)), 0.0
                )
            ]
        still = max_abs_diff(site.frames(site(site.fold(clip))), base(clip))
        # Same arithmetic on the same numbers, but sums of five times as many terms.
        largest = float(base(frame).detach().abs().max())
        return [
            Invariant("equals the base on one frame", one, 0.0),
            Invariant("equals the base on a still clip", still, 1e-12 * max(largest, 1.0)),
        ]


class FrameNormSite(Site):
    """A GroupNorm on ((b t) c n …), statistics per clip of n frames: one frame where n is 1."""

    clip: bool

    def forward(self, x: Tensor) -> Tensor:
        if self.context.bidirectional or self.clip:
            return self.fold(super().forward(self.frames(x)))
        return super().forward(x)

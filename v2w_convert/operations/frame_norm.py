"""Norms whose statistics ran over the clip: in the folded model they run over one frame, unless a plan says otherwise.

Folding alone does that; the operation states it, keeps the affine weights, and can take the base's form again for the
identity claim.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from v2w_convert.operations.base import Invariant, Operation, Problem, clip_context, max_abs_diff
from v2w_convert.sites import Site, swap_class


class FrameNorm(Operation):
    """Per-frame statistics where the base's ran over all frames."""

    name: ClassVar[str] = "frame_norm"
    mixes: ClassVar[bool] = True

    statistics: Literal["frame", "clip"] = Field(
        default="frame",
        description="Over one `frame`; or still over the `clip`, so that frames see the future: to measure a model that "
        "was trained so.",
    )

    def why_not(self, module: nn.Module) -> str | None:
        return None if isinstance(module, nn.GroupNorm) else f"is a {type(module).__name__}, not a GroupNorm"

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(module, FrameNormSite, name, clip=self.statistics == "clip")

    def suggestion(self, problem: Problem) -> str | None:
        if problem == "leaks_future" and self.statistics == "clip":
            return "without `statistics: clip` (v2w convert --repair), which needs finetuning"
        return None

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
            measured = max_abs_diff(site.unfold(site(site.fold(clip))), base(clip))
            return [Invariant("equals the base", measured, 0.0)]
        still = max_abs_diff(site.unfold(site(site.fold(clip))), base(clip))
        # Same arithmetic on the same numbers, but sums of five times as many terms.
        largest = float(base(frame).detach().abs().max())
        return [
            Invariant("equals the base on one frame", one, 0.0),
            Invariant("equals the base on a still clip", still, 1e-12 * max(largest, 1.0)),
        ]


class FrameNormSite(Site):
    """A GroupNorm on ((b t) c n …), statistics over the n frames of a block.

    Attributes:
        clip: Whether statistics run over the whole clip, as the base's do.
    """

    clip: bool

    def forward(self, x: Tensor) -> Tensor:
        if self.context.bidirectional or self.clip:
            return self.fold(super().forward(self.unfold(x)))
        output: Tensor = super().forward(x)
        return output

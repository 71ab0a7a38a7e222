"""Additive positions: a module that embeds the frame's index is given the index in the stream.

Folded clips of one frame would all be told index 0.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from v2w_convert.operations.base import Kept, Operation, gap, whole_clip
from v2w_convert.stream import Site, become


class FramePosition(Operation):
    """period   indices count 0 … period-1 and begin again, so that a rollout of any length meets no index
    that finetuning (which draws where a clip begins) has not shown; None: they grow without end
    """

    name: ClassVar[str] = "frame_position"
    period: int | None = Field(default=None, ge=1)

    def refusal(self, module: nn.Module) -> str | None:
        return (
            f"is a {type(module).__name__}, which has weights of its own" if [*module.parameters()] else None
        )

    def install(self, module: nn.Module, name: str, action_dim: int) -> None:
        become(module, FramePositionSite, name, period=self.period)

    def promise(self, base: Any, site: Any, generator: torch.Generator, unit: float) -> list[Kept]:
        t = min(self.period or 7, 7)
        site.current = whole_clip(2, t)
        after = site(torch.zeros(2 * t))
        return [Kept("equals the base's positions", gap(after, base(torch.arange(t).repeat(2))), 0.0)]


class FramePositionSite(Site):
    """A module that maps frame indices ((b t),) to embeddings ((b t) d)."""

    period: int | None

    def forward(self, index: Tensor) -> Tensor:
        frames = self.positions().expand(self.current.b, -1)
        if self.current.offset is not None:
            frames = frames + self.current.offset[:, None]
        if self.period is not None and not self.current.bidirectional:
            frames = torch.remainder(frames, self.period)
        return super().forward(frames.flatten().to(index.dtype))

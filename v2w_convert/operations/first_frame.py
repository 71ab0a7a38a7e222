"""A picture of the clip's first frame that the base shows to every frame, as if it were a prompt.

The base makes it of the first frame of what it receives; folded, every block would make its own.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.sites import Site, swap_class


class FirstFrame(Operation):
    """Every block receives what the first frame's condition makes."""

    name: ClassVar[str] = "first_frame"

    condition: str = Field(
        description="The picture-like condition whose first frame the module receives in the base."
    )

    def why_not(self, module: nn.Module) -> str | None:
        return None

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(module, FirstFrameSite, name, condition=self.condition)

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        channels = next(m for m in base.modules() if isinstance(m, nn.Conv2d)).in_channels
        first = torch.randn(2, channels, 8, 8, generator=generator, dtype=torch.float64)
        site.context = clip_context(2, 3)
        site.context.first_frames = {self.condition: first}
        blocks = torch.randn(6, channels, 8, 8, generator=generator, dtype=torch.float64)
        expected = base(first).repeat_interleave(3, 0)
        return [Invariant("equals the base on the first frame", max_abs_diff(site(blocks), expected), 0.0)]


class FirstFrameSite(Site):
    """A module that receives one picture for a clip, ((b t) c h w) in the folded model.

    Attributes:
        condition: Of whose first frame it is.
    """

    condition: str

    def forward(self, picture: Tensor, *args: Any, **kwargs: Any) -> Any:
        first = self.context.first_frames[self.condition].to(picture)
        return super().forward(first, *args, **kwargs).repeat_interleave(self.context.t, 0)

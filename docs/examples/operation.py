"""An operation: norms over the frames so far. The how-to "Add an operation" shows this file."""

# --8<-- [start:operation]
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import (
    Invariant,
    Operation,
    ReceptiveField,
    clip_context,
    max_abs_diff,
)
from v2w_convert.sites import Site, swap_class


class PastNorm(Operation):
    """Statistics over the frames so far, not over the whole clip."""

    name: ClassVar[str] = "past_norm"
    equals_base_at_last_frame: ClassVar[bool] = True

    def why_not(self, module: nn.Module) -> str | None:
        if isinstance(module, nn.GroupNorm):
            return None
        return f"is a {type(module).__name__}, not a GroupNorm"

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(module, PastNormSite, name)

    def receptive_field(
        self, module: nn.Module, frames_per_block: int
    ) -> ReceptiveField:
        return ReceptiveField(None)  # all frames so far

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        shape = (2, base.num_channels, 5, 4, 4)
        clip = torch.randn(shape, generator=generator, dtype=torch.float64)
        site.context = clip_context(2, 5)
        before, after = base(clip), site.unfold(site(site.fold(clip)))
        # The same sums in another order.
        allowed = 1e-12 * max(float(before.detach().abs().max()), 1.0)
        gap = max_abs_diff(after[:, :, -1], before[:, :, -1])
        sentence = "the last frame's output equals the base's"
        return [Invariant(sentence, gap, allowed)]


# --8<-- [end:operation]
# --8<-- [start:site]
class PastNormSite(Site, nn.GroupNorm):
    """A GroupNorm on folded frames ((b t) c n h w).

    Stream state: `sums` (b groups 3), sums of every block's mean and mean square, and of how many blocks. They are counted
    here because the position in the stream is none: it may begin anywhere, as `v2w verify` tries.
    """

    def forward(self, input: Tensor) -> Tensor:
        now = self.context
        if now.bidirectional:  # the base's form
            return self.fold(super().forward(self.unfold(input)))
        blocks = input.unflatten(0, (now.b, now.t))  # b t c n h w
        groups = blocks.unflatten(2, (self.num_groups, -1)).flatten(3)  # b t groups m
        mean, square = groups.mean(-1), groups.square().mean(-1)
        sums = torch.stack([mean, square, torch.ones_like(mean)], -1).cumsum(1)
        if self.past is not None:
            sums = sums + self.past["sums"][:, None]
        self.keep({"sums": sums[:, -1]})
        mean, square = (sums[..., :2] / sums[..., 2:]).unbind(-1)
        scale = (square - mean.square() + self.eps).rsqrt()
        normed = (
            ((groups - mean[..., None]) * scale[..., None])
            .view(blocks.shape)
            .flatten(0, 1)
        )
        channels = (-1, *[1] * (input.ndim - 2))
        return normed * self.weight.view(channels) + self.bias.view(channels)


# --8<-- [end:site]

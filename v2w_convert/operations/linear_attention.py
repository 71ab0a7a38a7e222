"""Attention without softmax in which frame t sees frames <= t, by running sums (Katharopoulos et al., arXiv 2006.16236).

With relu'd queries q and keys k, and R the rotation by position, the base gives every token
`(sum of v (R k)^T) R q / (sum of k)^T q`, sums over all tokens of the clip. Here they run over the frames so far: two
sums of fixed size carry any past. (SANA-Video, arXiv 2509.24695, whose own long-video variant does the same.)
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from v2w_convert.errors import V2WError
from v2w_convert.operations.base import (
    DraftFields,
    DraftSite,
    Invariant,
    Operation,
    ReceptiveField,
    clip_context,
    max_abs_diff,
)
from v2w_convert.operations.interception import call_unchanged
from v2w_convert.operations.rotary import Rotary
from v2w_convert.sites import Site, swap_class


class LinearAttention(Operation):
    """Linear self-attention in which a frame sees itself and all earlier frames."""

    name: ClassVar[str] = "linear_attention"
    mixes: ClassVar[bool] = True
    equals_base_at_last_frame: ClassVar[bool] = True

    rotary: Rotary = Field(description="How queries and keys are rotated by the frame's position.")

    def resolve(self, config: Mapping[str, Any]) -> Self:
        return self.model_copy(update={"rotary": self.rotary.resolve(config)})

    def why_not(self, module: nn.Module) -> str | None:
        kind = type(getattr(module, "processor", None)).__name__
        return (
            None if "Linear" in kind else f"is a {type(module).__name__} with {kind}, not a linear attention"
        )

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(module, LinearAttentionSite, name, rotary=self.rotary)

    @classmethod
    def draft(cls, site: DraftSite) -> DraftFields:
        return site.linear_attention()

    def receptive_field(self, module: nn.Module, frames_per_block: int) -> ReceptiveField:
        return ReceptiveField(None)

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        t = 5
        tokens = torch.randn(2, t, base.to_q.in_features, generator=generator, dtype=torch.float64)
        width = base.to_q.out_features // base.heads
        # The base receives no rotation in time, so the site must make none either; the identity claim tests it.
        no_rotation = (
            torch.ones(1, 1, 1, width, dtype=torch.float64),
            torch.zeros(1, 1, 1, width, dtype=torch.float64),
        )
        site.context = clip_context(2, t)
        site.rotary = None
        after = site(tokens.flatten(0, 1)[:, None], rotary_emb=no_rotation).view(2, t, -1)
        site.rotary = self.rotary
        before = base(tokens, rotary_emb=no_rotation)
        allowed = 1e-12 * max(float(before.detach().abs().max()), 1.0)
        return [
            Invariant(
                "the last frame's output equals the base's",
                max_abs_diff(after[:, -1], before[:, -1]),
                allowed,
            )
        ]


class LinearAttentionSite(Site):
    """An attention module on folded tokens ((b t) l d), h heads of width e.

    Stream state, sums over all committed frames: `keys` (b h e 1), and `products` (b h e e), in which a key is rotated
    by its frame's position counted from the cursor.

    Attributes:
        rotary: The rotation in time; None while invariants are measured.
    """

    rotary: Rotary | None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        calls = _LinearCalls(self)  # not `with … as calls`: Dynamo would lose its counts
        with calls:
            output = super().forward(*args, **kwargs)
        if (calls.sums, calls.products) != (1, 2):
            raise V2WError(
                f"run {self.site_name} causally",
                f"its forward made {calls.sums} sums and {calls.products} products, not 1 and 2",
                "the default attention processor",
            )
        return output

    def _keys(self, own: Tensor) -> Tensor:
        """Sums of each frame's keys ((b t) h e 1) -> of all frames' so far."""
        return self._running_sum("keys", own)

    def _scores(self, value: Tensor, key: Tensor) -> Tensor:
        """Values ((b t) h e l) times keys ((b t) h l e), summed over all frames so far: ((b t) h e e)."""
        return self._running_sum("products", value @ self._rotate(key))

    def _read(self, scores: Tensor, query: Tensor) -> Tensor:
        """What queries ((b t) h e l) read from the scores."""
        return scores @ self._rotate(query.transpose(-1, -2)).transpose(-1, -2)

    def _running_sum(self, name: str, own: Tensor) -> Tensor:
        """Each frame's summands ((b t) …) -> sums over all frames so far, kept under `name`."""
        now = self.context
        each = own.unflatten(0, (now.b, now.t))
        if now.bidirectional:
            return torch.sum(each, 1, keepdim=True).expand_as(each).flatten(0, 1)
        if self.past is not None:
            each = torch.cat([self.past[name][:, None], each], 1)
        sums = each.cumsum(1)[:, -now.t :]
        if now.commit:
            last = sums[:, now.committed - 1]
            if name == "products" and self.rotary is not None:  # counted from the cursor as it will be
                back = torch.full((1,), -now.committed * now.positions_per_block, device=last.device)
                last = self.rotary.rotate(last.unsqueeze(-3), back).squeeze(-3)
            now.new_states.setdefault(self.site_name, {})[name] = last
        output: Tensor = sums.flatten(0, 1)
        return output

    def _rotate(self, x: Tensor) -> Tensor:
        """Each frame's vectors ((b t) h l e) rotated by its position, counted from the cursor."""
        if self.rotary is None:
            return x
        now = self.context
        frames = x.unflatten(0, (now.b, now.t)).movedim(1, 2)  # b h t l e
        positions = torch.arange(now.t, device=x.device) * now.positions_per_block
        return self.rotary.rotate(frames, positions).movedim(2, 1).flatten(0, 1)


class _LinearCalls(TorchFunctionMode):
    """Sends the one sum and the two products of a linear attention to its site, and counts."""

    def __init__(self, site: LinearAttentionSite):
        super().__init__()
        self.site, self.sums, self.products = site, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.sum and kwargs.get("keepdim"):
            self.sums += 1
            return self.site._keys(torch.sum(*args, **kwargs))
        if func is torch.matmul:
            self.products += 1
            return (self.site._scores if self.products == 1 else self.site._read)(*args)
        return call_unchanged(func, args, kwargs)

"""Attention without softmax in which frame t sees frames <= t, by running sums (Katharopoulos et al., arXiv 2006.16236).

With relu'd queries q and keys k, and R the rotation by place, the base gives every token
`(sum of v (R k)^T) R q / (sum of k)^T q`, sums over all tokens of the clip. Here they run over the frames so far: two
sums of fixed size carry any past. (SANA-Video, arXiv 2509.24695, whose own long-video variant does the same.)
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from v2w_convert.errors import V2WError
from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.operations.interception import call_unchanged
from v2w_convert.operations.rotary import Rotary
from v2w_convert.sites import Site, swap_class


class LinearAttention(Operation):
    """rotary  how queries and keys are turned by the frame's place"""

    name: ClassVar[str] = "linear_attention"
    rotary: Rotary

    def resolve(self, config: Mapping[str, Any]) -> "LinearAttention":
        return self.model_copy(update={"rotary": self.rotary.resolve(config)})

    def why_not(self, module: nn.Module) -> str | None:
        kind = type(getattr(module, "processor", None)).__name__
        return (
            None if "Linear" in kind else f"is a {type(module).__name__} with {kind}, not a linear attention"
        )

    def install(
        self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None, n: int = 1
    ) -> None:
        swap_class(module, LinearAttentionSite, name, rotary=self.rotary)

    def sees_past(self) -> bool:
        return True

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        t = 5
        tokens = torch.randn(2, t, base.to_q.in_features, generator=generator, dtype=torch.float64)
        width = base.to_q.out_features // base.heads
        # The base is given no rotation in time, so the site may make none either; the identity claim tests it.
        still = (
            torch.ones(1, 1, 1, width, dtype=torch.float64),
            torch.zeros(1, 1, 1, width, dtype=torch.float64),
        )
        site.context = clip_context(2, t)
        site.rotary = None
        after = site(tokens.flatten(0, 1)[:, None], rotary_emb=still).view(2, t, -1)
        site.rotary = self.rotary
        before = base(tokens, rotary_emb=still)
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

    Stream state, sums over all committed frames: `keys` (b h e 1), and `products` (b h e e), in which a key is turned
    by its frame's place counted from the cursor.
    """

    rotary: Rotary | None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _Seam(self) as seam:
            output = super().forward(*args, **kwargs)
        if (seam.sums, seam.products) != (1, 2):
            raise V2WError(
                f"run {self.site_name} causally",
                f"its forward made {seam.sums} sums and {seam.products} products, not 1 and 2",
                "the default attention processor",
            )
        return output

    def _keys(self, own: Tensor) -> Tensor:
        """Sums of each frame's keys ((b t) h e 1) -> of all frames' so far."""
        return self._so_far("keys", own)

    def _scores(self, value: Tensor, key: Tensor) -> Tensor:
        """Values ((b t) h e l) times keys ((b t) h l e), summed over all frames so far: ((b t) h e e)."""
        return self._so_far("products", value @ self._turned(key))

    def _read(self, scores: Tensor, query: Tensor) -> Tensor:
        """What queries ((b t) h e l) find."""
        return scores @ self._turned(query.transpose(-1, -2)).transpose(-1, -2)

    def _so_far(self, name: str, own: Tensor) -> Tensor:
        now = self.context
        each = own.unflatten(0, (now.b, now.t))
        if now.bidirectional:
            return torch.sum(each, 1, keepdim=True).expand_as(each).flatten(0, 1)
        if self.past is not None:
            each = torch.cat([self.past[name][:, None], each], 1)
        sums = each.cumsum(1)[:, -now.t :]
        if now.commit:
            last = sums[:, -1]
            if name == "products" and self.rotary is not None:  # counted from the cursor as it will be
                back = torch.full((1,), -now.t * now.positions_per_block, device=last.device)
                last = self.rotary.rotate(last.unsqueeze(-3), back).squeeze(-3)
            now.new_states.setdefault(self.site_name, {})[name] = last
        return sums.flatten(0, 1)

    def _turned(self, x: Tensor) -> Tensor:
        """Each frame's vectors ((b t) h l e) turned by its place, counted from the cursor."""
        if self.rotary is None:
            return x
        now = self.context
        frames = x.unflatten(0, (now.b, now.t)).movedim(1, 2)  # b h t l e
        places = torch.arange(now.t, device=x.device) * now.positions_per_block
        return self.rotary.rotate(frames, places).movedim(2, 1).flatten(0, 1)


class _Seam(TorchFunctionMode):
    """Hands the one sum and the two products of a linear attention to its site, and counts."""

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

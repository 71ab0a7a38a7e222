"""Self-attention in which frame t sees frames <= t (Vid2World, arXiv 2505.14357, section 4.1).

No processor is written per family: every softmax attention served here ends in
`torch.nn.functional.scaled_dot_product_attention`. A site catches that one call of its own forward,
unfolds queries, keys and values, puts the stream's keys and values in front, masks, and folds again.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from v2w_convert.errors import V2WError
from v2w_convert.operations.base import Kept, Operation, gap, whole_clip
from v2w_convert.stream import Site, become


class CausalAttention(Operation):
    """window   frames that a frame sees, itself included; a name is looked up in the base's config; None: all"""

    name: ClassVar[str] = "causal_attention"
    window: int | str | None = None

    def refusal(self, module: nn.Module) -> str | None:
        if not (hasattr(module, "processor") or hasattr(module, "to_q")):
            return f"is a {type(module).__name__}, not an attention"
        if getattr(module, "is_cross_attention", False):
            return "attends to something else than the frames"
        return None

    def install(self, module: nn.Module, name: str, action_dim: int) -> None:
        assert not isinstance(self.window, str), "the plan is not resolved"
        become(module, CausalAttentionSite, name, window=self.window)

    def sees_past(self) -> bool:
        return self.window is None or isinstance(self.window, str) or self.window > 1

    def promise(self, base: Any, site: Any, generator: torch.Generator, unit: float) -> list[Kept]:
        t = min(site.window or 5, 5)
        tokens = torch.randn(2, t, base.query_dim, generator=generator, dtype=torch.float64)
        site.current = whole_clip(2, t)
        after = site(tokens.flatten(0, 1).unsqueeze(1)).view(2, t, -1)
        before = base(tokens)
        # The same sums in another order of memory.
        allowed = 1e-12 * max(float(before.detach().abs().max()), 1.0)
        return [Kept("the last frame's output equals the base's", gap(after[:, -1], before[:, -1]), allowed)]


class CausalAttentionSite(Site):
    """An attention module on folded tokens ((b t s) l d): s positions that attend apart, l tokens of a frame.

    Stream state: `keys` and `values` (b s heads window-1 l d), ring buffers in which frame f lies in slot
    f mod (window - 1). They are kept as the site computed them, before any rotation.
    """

    window: int | None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _Seam(self._attend) as seam:
            output = super().forward(*args, **kwargs)
        if seam.calls != 1:
            raise V2WError(
                f"run {self.site_name} causally",
                f"its forward made {seam.calls} calls of scaled_dot_product_attention, not 1",
                "the default attention processor, without xformers or another attention backend",
            )
        return output

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        if attn_mask is not None or is_causal:
            raise V2WError(
                f"run {self.site_name} causally", "the base gives this attention a mask of its own"
            )
        now = self.current
        q, k, v = (x.unflatten(0, (now.b, now.t, -1)).permute(0, 2, 3, 1, 4, 5) for x in (query, key, value))
        l_query, l_key = q.shape[4], k.shape[4]
        seen = now.cursor + torch.arange(now.t, device=q.device)
        if self.past is not None and not now.bidirectional:
            slots = self.past["keys"].shape[3]
            if now.commit:
                self.keep(
                    {"keys": _into(self.past["keys"], k, seen), "values": _into(self.past["values"], v, seen)}
                )
            # Slot i of a ring of C holds the last frame before the cursor that is i mod C; negative: none yet.
            last = now.cursor - 1
            ring = last - torch.remainder(last - torch.arange(slots, device=q.device), slots)
            k, v = torch.cat([self.past["keys"], k], 3), torch.cat([self.past["values"], v], 3)
            held = torch.cat([ring, seen])
        else:
            self.keep({"keys": k, "values": v})
            held = seen
        if now.bidirectional:
            mask = None
        else:
            visible = (held <= seen[:, None]) & (held >= 0)
            if self.window is not None:
                visible = visible & (held > seen[:, None] - self.window)
            # Four axes: a mask of two can be taken for key padding.
            mask = visible.repeat_interleave(l_query, 0).repeat_interleave(l_key, 1)[None, None]
        q, k, v = (x.flatten(0, 1).flatten(2, 3) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p, **options)
        out = out.unflatten(2, (now.t, l_query)).unflatten(0, (now.b, -1))  # b s heads t l d
        return out.permute(0, 3, 1, 2, 4, 5).flatten(0, 2)


def _into(ring: Tensor, new: Tensor, frames: Tensor) -> Tensor:
    """`ring` (b s heads C l d) with `new` (b s heads t l d) in the slots of `frames` (t,); the older fall out."""
    slots = ring.shape[3]
    kept = min(new.shape[3], slots)
    return ring.index_copy(3, torch.remainder(frames[-kept:], slots), new[:, :, :, -kept:])


class _Seam(TorchFunctionMode):
    """Hands every scaled_dot_product_attention within it to `attend`, and counts."""

    def __init__(self, attend: Any):
        super().__init__()
        self.attend, self.calls = attend, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.calls += 1
            return self.attend(*args, **(kwargs or {}))  # the mode is off in here
        return func(*args, **(kwargs or {}))

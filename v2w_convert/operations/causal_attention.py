"""Self-attention in which frame t sees frames <= t (Vid2World, arXiv 2505.14357, section 4.1).

No processor is written per family: every softmax attention served here ends in
`torch.nn.functional.scaled_dot_product_attention`. A site catches that one call of its own forward,
unfolds queries, keys and values, puts the stream's keys and values in front, masks, and folds again.

Shapes: b clips of t blocks of l tokens; s positions of a frame that attend separately; d channels of a head.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from v2w_convert.errors import V2WError
from v2w_convert.expression import ConfigInt, evaluate_int
from v2w_convert.operations.base import (
    AttentionWindow,
    DraftFields,
    DraftSite,
    Invariant,
    Operation,
    Problem,
    ReceptiveField,
    clip_context,
    max_abs_diff,
)
from v2w_convert.operations.interception import SITE_ATTENTION, call_unchanged
from v2w_convert.operations.rotary import Rotary
from v2w_convert.sites import Reference, Site, swap_class

MAX_FRAMES = 10_000  # in view: as many are kept in memory
# A clip attends block by block, without a mask, if one of all its tokens by all would have more numbers than MAX_MASK, or
# if blocks have as many tokens as BLOCK_TOKENS: what the mask hides then takes longer than more calls.
MAX_MASK = 2**22
BLOCK_TOKENS = 64


class CausalAttention(Operation):
    """Softmax self-attention in which a frame sees itself and earlier frames."""

    name: ClassVar[str] = "causal_attention"
    mixes: ClassVar[bool] = True
    equals_base_at_last_frame: ClassVar[bool] = True
    ring_states: ClassVar[tuple[str, ...]] = ("keys", "values")
    options: ClassVar[tuple[str, ...]] = ("window", "sinks")

    window: ConfigInt | None = Field(
        default=None,
        description="Frames that a frame sees, itself included; none: all. A number, or an expression over the base's "
        "config. Where a block has several frames: as many whole blocks as fit.",
    )
    sinks: int = Field(
        default=0,
        ge=0,
        le=MAX_FRAMES,
        description="First frames of the stream, in whole blocks, that stay in view besides the window "
        "(arXiv 2309.17453). With rotary positions, they stand right before the window.",
    )
    text: Literal["first", "last"] | None = Field(
        default=None,
        description="Where the prompt's tokens stand, in a family in which they attend together with the frames'. Each "
        "frame has its own copy of them, which sees that frame and those before it: so no text carries the future.",
    )
    text_mask: bool = Field(
        default=False, description="Whether the base's attention takes a mask of the text's padding."
    )
    per_sample_calls: bool = Field(
        default=False,
        description="Whether the base attends to one clip of a batch after the other, and concatenates the outputs.",
    )
    rotary: Rotary | None = Field(
        default=None,
        description="How queries and keys are rotated by the frame's position, in a family that does so.",
    )

    def resolve(self, config: Mapping[str, Any]) -> Self:
        window = None if self.window is None else evaluate_int(self.window, config)
        if window is not None and not 1 <= window <= MAX_FRAMES:
            raise ValueError(f"window: {window} frames")
        if self.sinks and window is None:
            raise ValueError(f"sinks: {self.sinks} frames stay in view anyway, for there is no window")
        return self.model_copy(
            update={"window": window, "rotary": self.rotary and self.rotary.resolve(config)}
        )

    def why_not(self, module: nn.Module) -> str | None:
        if not (hasattr(module, "processor") or hasattr(module, "to_q")):
            return f"is a {type(module).__name__}, not an attention"
        if getattr(module, "is_cross_attention", False):
            return "attends to something else than the frames"
        return None

    def block_faults(self, frames_per_block: int) -> list[str]:
        faults = []
        if self.window is not None and self.window < frames_per_block:
            faults.append(f"a window of {self.window} is less than a block of {frames_per_block}")
        if self.sinks % frames_per_block:
            faults.append(f"{self.sinks} sinks are not whole blocks of {frames_per_block}")
        return faults

    def named_tensors(self) -> list[str]:
        return [self.rotary.learned] if self.rotary is not None and self.rotary.learned is not None else []

    @classmethod
    def draft(cls, site: DraftSite) -> DraftFields:
        return site.softmax_attention()

    def suggestion(self, problem: Problem) -> str | None:
        if problem == "forgets_past" and self.window is not None:
            return "a longer window (v2w convert --window) sees further back"
        return None

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(
            module,
            CausalAttentionSite,
            name,
            window=None if self.window is None else self.window // frames_per_block,
            sinks=self.sinks // frames_per_block,
            text=self.text,
            per_sample_calls=self.per_sample_calls,
            rotary=self.rotary,
            root=None if root is None else Reference(root),
        )

    def receptive_field(self, module: nn.Module, frames_per_block: int) -> ReceptiveField:
        if self.window is None:
            return ReceptiveField(None)
        return ReceptiveField(self.window // frames_per_block - 1, self.sinks // frames_per_block)

    @property
    def attention_window(self) -> AttentionWindow:
        return AttentionWindow(self.window, self.sinks)

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        queries = getattr(base, "to_q", getattr(base, "to_query", None))
        if queries is None:  # it cannot be called by itself; the identity claim measures the whole model
            return []
        t, width = min(site.window or 5, 5), queries.in_features
        tokens = torch.randn(2, t, width, generator=generator, dtype=torch.float64)
        text_width = base.add_k_proj.in_features if getattr(base, "add_k_proj", None) is not None else width
        prompt = torch.randn(2, 3, text_width, generator=generator, dtype=torch.float64)
        site.context = clip_context(2, t)
        arguments, repeated = {}, {}
        if self.text is not None:
            arguments = {"encoder_hidden_states": prompt}
            if self.text_mask:
                arguments["attention_mask"] = torch.ones(2, 3, dtype=torch.bool)
            repeated = {argument: value.repeat_interleave(t, 0) for argument, value in arguments.items()}
        site.rotary = None  # the base is called without one too; the identity claim tests rotation
        after = _frames_output(site(tokens.flatten(0, 1).unsqueeze(1), **repeated)).view(2, t, -1)
        site.rotary = self.rotary
        before = _frames_output(base(tokens, **arguments))
        # The same sums in another order of memory.
        allowed = 1e-12 * max(float(before.detach().abs().max()), 1.0)
        return [
            Invariant(
                "the last frame's output equals the base's",
                max_abs_diff(after[:, -1], before[:, -1]),
                allowed,
            )
        ]


class _Source(NamedTuple):
    """Keys and values of some blocks, and which blocks of the pass see them.

    Attributes:
        keys: (b s heads x l d) of x blocks.
        values: The same.
        visible: (t x) bool, which of the pass's t blocks sees which of these.
        spans: For each of the t blocks, the consecutive blocks that it sees, where that is known beforehand.
    """

    keys: Tensor
    values: Tensor
    visible: Tensor
    spans: list[slice] | None = None


class CausalAttentionSite(Site):
    """An attention module on folded tokens ((b t s) l d).

    Stream state: `keys` and `values` (b s heads window-1 l d), ring buffers in which block f lies in slot
    f mod (window - 1); `sink_keys` and `sink_values` (b s heads sinks l d) of the first blocks. They are kept as the
    site computed them, before any rotation in time, and without text.

    Attributes:
        window: Blocks that a block sees, itself included; None: all.
        sinks: First blocks of the stream that stay in view.
        text: As in `CausalAttention`.
        per_sample_calls: As in `CausalAttention`.
        rotary: As in `CausalAttention`.
        root: The base, which has the learned frequencies of the rotary.
    """

    window: int | None
    sinks: int
    text: Literal["first", "last"] | None
    per_sample_calls: bool
    rotary: Rotary | None
    root: Reference[nn.Module] | None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return (self._forward_per_sample if self.per_sample_calls else self._forward)(*args, **kwargs)

    @torch.compiler.disable(  # type: ignore[untyped-decorator]
        reason="the base calls attention once per sample, on tensors of varying length"
    )
    def _forward_per_sample(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward(*args, **kwargs)

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        # What is not a frame's is text: the prompt, or what is left of it, if the base drops its padding.
        frames = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        attend = partial(self._attend, None if self.text is None else frames.shape[1])
        calls = (
            _PerSampleCalls(attend, self.context.b * self.context.t)
            if self.per_sample_calls
            else _AttentionCalls(attend)
        )
        with calls:
            output = super().forward(*args, **kwargs)
        if calls.count != 1:
            raise V2WError(
                f"run {self.site_name} causally",
                f"its forward made {calls.count} calls of scaled_dot_product_attention, not 1",
                "the default attention processor, without xformers or another attention backend",
            )
        return output

    def _attend(
        self,
        l_frame: int | None,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """What the base's own call of scaled_dot_product_attention gives, causally.

        Args:
            l_frame: Tokens of a block's frames among the query's, where text attends with them; None: there is no text.
            query: ((b t s) heads l d).
            key: The same.
            value: The same.
            attn_mask: The base's; of text padding only.
            dropout_p: As in torch.
            is_causal: As in torch; a base that sets it is refused.
            options: As in torch.
        """
        l_text = 0 if l_frame is None else query.shape[2] - l_frame
        if is_causal or (attn_mask is not None and not l_text):
            raise V2WError(
                f"run {self.site_name} causally", "the base gives this attention a mask of its own"
            )
        now = self.context
        q, k, v = (x.unflatten(0, (now.b, now.t, -1)).permute(0, 2, 3, 1, 4, 5) for x in (query, key, value))
        blocks = self.block_indices()
        sources = self._sources(self._frames(k, l_text), self._frames(v, l_text), blocks)
        if l_text:
            # Each copy belongs to its block; to the base, which does not rotate it, it stands where the clip begins.
            begin = torch.zeros_like(blocks)
            if self.window is not None and not now.bidirectional:
                begin = (blocks - self.window + 1 - self.sinks).clamp(min=0)
            own = torch.eye(now.t, dtype=torch.bool, device=q.device)
            each = [slice(i, i + 1) for i in range(now.t)]
            text_keys, text_values = (self._text(x, l_text) for x in (k, v))
            sources = [_Source(self._rotate(text_keys, begin), text_values, own, each), *sources]
            q = self._join(
                self._rotate(self._text(q, l_text), begin), self._rotate(self._frames(q, l_text), blocks)
            )
        else:
            q = self._rotate(q, blocks)
        padding = self._padding(attn_mask, l_text) if l_text and attn_mask is not None else None
        attend = partial(SITE_ATTENTION, dropout_p=dropout_p, **options)
        size = now.t * q.shape[4] * sum(x.keys.shape[3] * x.keys.shape[4] for x in sources)
        masked = bool(l_text) or not now.bidirectional
        large = size > MAX_MASK or (masked and now.t > 1 and q.shape[4] >= BLOCK_TOKENS)
        if large and all(x.spans is not None for x in sources):
            out = _block_by_block(attend, q, sources, padding)
        else:
            out = _at_once(attend, q, sources, _mask(sources, q.shape[4], padding) if masked else None)
        output: Tensor = out.unflatten(0, (now.b, -1)).permute(0, 3, 1, 2, 4, 5).flatten(0, 2)
        return output

    def _sources(self, k: Tensor, v: Tensor, blocks: Tensor) -> list[_Source]:
        """What the pass's `blocks` (t,) may see: the sinks, and the blocks in the window. Renews the stream's state."""
        now = self.context
        if now.bidirectional:
            self.keep({"keys": k, "values": v})
            everything = torch.ones(now.t, now.t, dtype=torch.bool, device=k.device)
            return [_Source(self._rotate(k, blocks), v, everything, [slice(now.t)] * now.t)]
        new_keys, new_values = (x[:, :, :, : now.committed] for x in (k, v))
        past, available, state = self.past, blocks, {"keys": new_keys, "values": new_values}
        if past is not None:
            slots, l_kept = past["keys"].shape[3:5]
            if l_kept != k.shape[4]:
                found = f"a frame has {k.shape[4]} tokens of its own, and had {l_kept} when the stream began"
                raise V2WError(
                    f"run {self.site_name} causally", found, "`text` in the plan, if a prompt is among them"
                )
            if now.commit:
                state = {
                    "keys": _write_ring(past["keys"], new_keys, blocks[: now.committed]),
                    "values": _write_ring(past["values"], new_values, blocks[: now.committed]),
                }
            # Slot i of a ring of C holds the last block before the cursor that is i mod C; negative: none yet.
            last = now.cursor - 1
            ring = last - torch.remainder(last - torch.arange(slots, device=k.device), slots)
            available = torch.cat([ring, blocks])
        sinks = []
        if self.sinks:
            state["sink_keys"], state["sink_values"] = (
                self._first_blocks(x, None if past is None else past[name])
                for x, name in ((new_keys, "sink_keys"), (new_values, "sink_values"))
            )
            sinks = [self._sink_source(state["sink_keys"], state["sink_values"], blocks)]
        self.keep(state)
        if past is not None:
            k, v = torch.cat([past["keys"], k], 3), torch.cat([past["values"], v], 3)
        visible = (available <= blocks[:, None]) & (available >= 0)
        if self.window is not None:
            visible = visible & (available > blocks[:, None] - self.window)
        first = [0 if self.window is None else max(0, i - self.window + 1) for i in range(now.t)]
        spans = None if past is not None else [slice(first[i], i + 1) for i in range(now.t)]
        return [*sinks, _Source(self._rotate(k, available), v, visible, spans)]

    def _first_blocks(self, new: Tensor, old: Tensor | None) -> Tensor:
        """The stream's first blocks (b s heads sinks l d), as far as they are there, of `new` and of what was kept."""
        cursor = self.context.cursor
        index = torch.arange(self.sinks, device=new.device)
        given = new.index_select(3, (index - cursor).clamp(0, self.context.committed - 1))
        if old is None:
            return given
        fresh = (index >= cursor) & (index < cursor + self.context.committed)
        return torch.where(fresh[:, None, None], given, old)

    def _sink_source(self, k: Tensor, v: Tensor, blocks: Tensor) -> _Source:
        """The sinks as each block sees them, once they have left its window. There is a window where there are sinks."""
        window = self.window or 0
        t, index = len(blocks), torch.arange(self.sinks, device=k.device)
        gone = index <= blocks[:, None] - window  # t sinks
        starts = self.past is None  # the pass begins with the stream
        count = [max(0, min(self.sinks, i - window + 1)) for i in range(t)]
        if self.rotary is None:
            return _Source(k, v, gone, [slice(x) for x in count] if starts else None)
        # Their positions depend on the block that sees them: each block has a copy of its own.
        positions = index + (blocks[:, None] - window + 1 - self.sinks).clamp(min=0)
        k, v = (x.unsqueeze(3).expand(-1, -1, -1, t, -1, -1, -1).flatten(3, 4) for x in (k, v))
        own = torch.eye(t, dtype=torch.bool, device=k.device)[:, :, None] & gone[:, None]
        spans = [slice(i * self.sinks, i * self.sinks + x) for i, x in enumerate(count)] if starts else None
        return _Source(self._rotate(k, positions.flatten()), v, own.flatten(1), spans)

    def _rotate(self, x: Tensor, blocks: Tensor) -> Tensor:
        """x (… heads t l d) rotated by the positions of `blocks` (t,)."""
        if self.rotary is None:
            return x
        # Counted from the cursor: only differences matter, and the angles of small numbers are exact.
        positions = (blocks - self.context.cursor) * self.context.positions_per_block
        learned = None
        if self.rotary.learned is not None and self.root is not None:
            learned = self.root.tensor(self.rotary.learned)
        return self.rotary.rotate(x, positions, learned=learned)

    def _join(self, text: Tensor, frames: Tensor) -> Tensor:
        return torch.cat([text, frames] if self.text == "first" else [frames, text], 4)

    def _text(self, x: Tensor, l_text: int) -> Tensor:
        """The text's tokens of tokens (… l d)."""
        return x[..., :l_text, :] if self.text == "first" else x[..., x.shape[-2] - l_text :, :]

    def _frames(self, x: Tensor, l_text: int) -> Tensor:
        """The frames' tokens of tokens (… l d)."""
        return x[..., l_text:, :] if self.text == "first" else x[..., : x.shape[-2] - l_text, :]

    def _padding(self, attn_mask: Tensor, l_text: int) -> Tensor:
        """Which of the text's tokens are not padding, (b 1 1 t l_text), from the base's mask ((b t) 1 1|l l)."""
        if attn_mask.dtype != torch.bool or attn_mask.ndim != 4 or attn_mask.shape[1] != 1:
            raise V2WError(
                f"run {self.site_name} causally",
                f"the base gives this attention a mask {tuple(attn_mask.shape)} of {attn_mask.dtype}",
            )
        row = 0 if self.text == "last" else -1  # of a frame's token: padding sees nothing
        given = self._text(attn_mask[:, :, row, :, None], l_text).transpose(2, 3)  # (b t) 1 1 l
        output: Tensor = given.unflatten(0, (self.context.b, self.context.t)).permute(0, 2, 3, 1, 4)
        return output


def _at_once(attend: Callable[..., Tensor], q: Tensor, sources: list[_Source], mask: Tensor | None) -> Tensor:
    """All queries q (b s heads t l d) by one call: outputs ((b s) heads t l d)."""
    k, v = _concatenate([x.keys for x in sources]), _concatenate([x.values for x in sources])
    output: Tensor = attend(q.flatten(0, 1).flatten(2, 3), k, v, attn_mask=mask).unflatten(2, q.shape[3:5])
    return output


def _block_by_block(
    attend: Callable[..., Tensor], q: Tensor, sources: list[_Source], padding: Tensor | None
) -> Tensor:
    """The same by one call for each block, with what it sees."""
    # Blocks are joined, not cut out: the gradient of a cut is as large as all blocks.
    parts = [[x.flatten(0, 1).unbind(2) for x in (source.keys, source.values)] for source in sources]
    outputs = []
    for i, query in enumerate(q.flatten(0, 1).unbind(2)):
        seen = [source.spans[i] if source.spans is not None else slice(0) for source in sources]
        k, v = (
            torch.cat([x for part, span in zip(parts, seen, strict=True) for x in part[axis][span]], 2)
            for axis in (0, 1)
        )
        mask = None
        if padding is not None:
            mask = F.pad(padding[:, :, :, i], (0, k.shape[2] - padding.shape[4]), value=True)
        outputs.append(attend(query, k, v, attn_mask=mask))
    return torch.stack(outputs, 2)


def _concatenate(sources: list[Tensor]) -> Tensor:
    """Keys or values (b s heads x l d) of all sources, one after the other: ((b s) heads tokens d)."""
    tokens = [x.flatten(0, 1).flatten(2, 3) for x in sources]
    return tokens[0] if len(tokens) == 1 else torch.cat(tokens, 2)


def _mask(sources: list[_Source], l_query: int, padding: Tensor | None) -> Tensor:
    """Which of all tokens sees which, (1|b 1 queries keys). `padding` (b 1 1 t l) is of the first source's tokens."""
    # Four axes: a mask of two can be taken for key padding.
    masks = [
        x.visible.repeat_interleave(l_query, 0).repeat_interleave(x.keys.shape[4], 1)[None, None]
        for x in sources
    ]
    if padding is not None:
        masks[0] = masks[0] & padding.flatten(3)
    return torch.cat([x.expand(len(masks[0]), -1, -1, -1) for x in masks], 3)


def _frames_output(output: Any) -> Tensor:
    """The frames' output of what an attention returns: some return the text's besides."""
    frames: Tensor = output[0] if isinstance(output, tuple) else output
    return frames


def _write_ring(ring: Tensor, new: Tensor, blocks: Tensor) -> Tensor:
    """`ring` (b s heads C l d) with `new` (b s heads t l d) in the slots of `blocks` (t,); the oldest are overwritten."""
    slots = ring.shape[3]
    kept = min(new.shape[3], slots)
    return ring.index_copy(3, torch.remainder(blocks[-kept:], slots), new[:, :, :, -kept:])


class _AttentionCalls(TorchFunctionMode):
    """Sends every scaled_dot_product_attention within it to `attend`, and counts."""

    def __init__(self, attend: Callable[..., Tensor]):
        super().__init__()
        self.attend, self.count = attend, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.count += 1
            return self.attend(*args, **(kwargs or {}))  # the mode is off in here
        return call_unchanged(func, args, kwargs)


class _PerSampleCalls(_AttentionCalls):
    """The same where the base makes a call for each of n clips and concatenates the outputs (padded to one length)."""

    def __init__(self, attend: Callable[..., Tensor], n: int):
        super().__init__(attend)
        self.n = n
        self.recorded: list[tuple[Tensor, ...]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.recorded.append(args[:3])
            return args[0]  # a stand-in until all are known
        if func is torch.cat and len(self.recorded) == self.n:
            padded = args[0][0].shape[-2]
            if len({x[0].shape for x in self.recorded}) > 1:
                raise V2WError("attend to several frames", "their prompts have different numbers of tokens")
            query, key, value = (torch.cat(x) for x in zip(*self.recorded, strict=True))
            self.recorded, self.count = [], self.count + 1
            out = self.attend(query, key, value)
            return F.pad(out, (0, 0, 0, padded - out.shape[-2]))
        return call_unchanged(func, args, kwargs)

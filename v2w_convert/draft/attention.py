"""The fields of an attention's operation, measured by calling the attention outside its model."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from v2w_convert.draft.rotary_fit import RotaryFitError, fit_rotary
from v2w_convert.operations import CausalAttention
from v2w_convert.operations.base import DraftFields

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class RecordedSite:
    """A module through which frames mix, as operations see it (`v2w_convert.operations.base.DraftSite`).

    Attributes:
        name: Its path.
        root: The tiny model, float64.
        arguments: What the module was called with, for clips of t frames.
        t: Frames.
        config: The model's.
    """

    name: str
    root: nn.Module
    arguments: Arguments
    t: int
    config: dict[str, Any]

    def softmax_attention(self) -> DraftFields:
        """The fields of `causal_attention`, without its window."""
        calls, tokens = self._queries(self.arguments), self._tokens.shape[1]
        per_sample = len(calls) > 1 and len(calls) == len(self._tokens)
        if tokens % self.t or not (per_sample or len(calls) == 1):
            found = f"it makes {len(calls)} attention calls on {tokens} tokens for {self.t} frames"
            return DraftFields({}, (found,))
        fields: dict[str, Any] = {"per_sample_calls": True} if per_sample else {}
        l_text = calls[0].shape[-2] - tokens
        if l_text < 0:
            found = f"it receives {tokens} tokens, and has only {calls[0].shape[-2]} queries"
            return DraftFields(fields, (found,))
        if l_text > 0:
            text = self._text_side(calls[0])
            if text is None:
                found = f"it has {l_text} tokens besides its frames', from an unknown source"
                return DraftFields(fields, (found,))
            fields["text"] = text
        fields, verified = self._with_text_mask(fields)
        try:
            fields |= self._rotary(self._still_queries(l_text, fields.get("text")))
        except RotaryFitError as error:
            found = f"its queries are rotated by the frame's position, in an unknown way: {error}"
            return DraftFields(fields, (found,))
        unverified = "v2w verify cannot check this attention by itself, or its invariant does not hold"
        return DraftFields(fields, () if verified else (unverified,))

    def linear_attention(self) -> DraftFields:
        """The fields of `linear_attention`. Keys are recorded where they meet values."""
        args, kwargs = self._with_tokens(self._still_tokens)
        with _RecordedCalls(torch.matmul, skip_relu=True) as recorded:
            self._module(*args, **kwargs)
        keys = recorded.calls[0][1][0]  # heads, tokens, d
        try:
            fields = self._rotary(keys)
        except RotaryFitError as error:
            found = f"its keys are rotated by the frame's position, in an unknown way: {error}"
            return DraftFields({}, (found,))
        missing = "its keys are not rotated by the frame's position, and `rotary` is required"
        return DraftFields(fields, () if fields else (missing,))

    @property
    def _module(self) -> nn.Module:
        return self.root.get_submodule(self.name)

    @property
    def _tokens(self) -> Tensor:
        """The tokens (b l d) that the module was called with."""
        args, kwargs = self.arguments
        tokens: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        return tokens

    @property
    def _still_tokens(self) -> Tensor:
        """As many tokens, all equal to the first: frames then differ by their positions only."""
        return self._tokens[:, :1].expand_as(self._tokens).contiguous()

    def _with_tokens(self, tokens: Tensor) -> Arguments:
        """The arguments with other tokens."""
        args, kwargs = self.arguments
        if "hidden_states" in kwargs:
            return args, kwargs | {"hidden_states": tokens}
        return (tokens, *args[1:]), kwargs

    def _queries(self, arguments: Arguments) -> list[Tensor]:
        """The queries (b heads tokens d) of every softmax attention that the module computes."""
        args, kwargs = arguments
        with _RecordedCalls(F.scaled_dot_product_attention) as recorded:
            self._module(*args, **kwargs)
        return [call[0] for call in recorded.calls]

    def _text_side(self, queries: Tensor) -> Literal["first", "last"] | None:
        """Where the prompt's tokens are among the queries, by changing them; None if no argument is a prompt."""
        args, kwargs = self.arguments
        text = next((key for key, x in kwargs.items() if "encoder" in key and isinstance(x, Tensor)), None)
        if text is None:
            return None
        other = self._queries((args, kwargs | {text: kwargs[text] + 1}))[0]
        changed = (other != queries).any(-1).flatten(0, 1).any(0)
        return "first" if bool(changed[0]) else "last"

    def _still_queries(self, l_text: int, text: Literal["first", "last"] | None) -> Tensor:
        """The frames' queries (heads tokens d) for equal tokens."""
        queries = self._queries(self._with_tokens(self._still_tokens))[0][0]
        if l_text == 0:
            return queries
        return queries[:, l_text:] if text == "first" else queries[:, : queries.shape[1] - l_text]

    def _rotary(self, vectors: Tensor) -> dict[str, Any]:
        """The field `rotary` for queries or keys (heads tokens d); no field if they are not rotated."""
        rotary = fit_rotary(torch.unflatten(vectors, 1, (self.t, -1))[:, :, 0], self.root, self.config)
        return {} if rotary is None else {"rotary": rotary.model_dump(exclude_defaults=True)}

    def _with_text_mask(self, fields: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The fields with which the attention keeps the operation's invariant, and whether it does with any.

        Some attentions need to know which tokens of the text are padding.
        """
        for mask in ({}, {"text_mask": True}):
            operation = CausalAttention.model_validate({"at": self.name, **fields, **mask})
            changed = deepcopy(self._module)
            operation.install(changed, self.name, 1, self.root)
            with suppress(Exception):  # anything: it may need arguments that it does not get here
                generator = torch.Generator().manual_seed(0)
                if all(i.ok for i in operation.check_invariants(self._module, changed, generator, 0.0)):
                    return fields | mask, True
        return fields, False


class _RecordedCalls(TorchFunctionMode):
    """Records the arguments of every call of one function.

    Attributes:
        calls: The positional arguments of each call.
    """

    def __init__(self, function: Callable[..., Any], skip_relu: bool = False):
        """Record one function.

        Args:
            function: The function.
            skip_relu: Whether a ReLU does nothing: the rotation of negative values would be lost.
        """
        super().__init__()
        self.function, self.skip_relu = function, skip_relu
        self.calls: list[tuple[Any, ...]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.skip_relu and func in (F.relu, torch.relu):
            return args[0]
        if func is self.function:
            self.calls.append(args or tuple(kwargs[key] for key in ("query", "key", "value")))
        return func(*args, **kwargs)

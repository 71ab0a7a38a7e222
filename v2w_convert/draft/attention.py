"""What a plan must say of one attention, found by calling it apart from its model."""

from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from v2w_convert.draft.turns import Unmeasured, measure
from v2w_convert.operations import CausalAttention
from v2w_convert.operations.base import DraftFields

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class RecordedSite:
    """A module through which frames mix, as operations ask of it (`v2w_convert.operations.base.DraftSite`).

    Attributes:
        name: Its path.
        root: The tiny model, float64.
        arguments: What the module was called with.
        t: Frames of the clips in it.
        config: The model's.
    """

    name: str
    root: nn.Module
    arguments: Arguments
    t: int
    config: dict[str, Any]

    def softmax_attention(self) -> DraftFields:
        """The fields of `causal_attention`."""
        return softmax_attention(self.name, self.root, self.arguments, self.t, self.config)

    def linear_attention(self) -> DraftFields:
        """The fields of `linear_attention`."""
        return linear_attention(self.name, self.root, self.arguments, self.t, self.config)


def softmax_attention(
    name: str, root: nn.Module, given: Arguments, t: int, config: dict[str, Any]
) -> DraftFields:
    """Of the attention `name` of `root` (float64), which was `given` these arguments for clips of t frames."""
    site = root.get_submodule(name)
    args, kwargs = given
    hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    tokens = hidden.shape[1]
    calls = _calls(site, args, kwargs)
    apart = len(calls) > 1 and len(calls) == len(hidden)
    if tokens % t or not (apart or len(calls) == 1):
        return DraftFields({}, (f"it makes {len(calls)} attentions of {tokens} tokens for {t} frames",))
    fields: dict[str, Any] = {"per_sample_calls": True} if apart else {}
    query = calls[0]
    l_text = query.shape[-2] - tokens
    if l_text > 0:
        text = next((key for key, x in kwargs.items() if "encoder" in key and isinstance(x, Tensor)), None)
        if text is None:
            return DraftFields(
                fields, (f"it has {l_text} tokens beside its frames', and it is not seen whose",)
            )
        other = _calls(site, args, kwargs | {text: kwargs[text] + 1})[0]
        changed = (other != query).any(-1).flatten(0, 1).any(0)
        fields["text"] = "first" if bool(changed[0]) else "last"
    elif l_text < 0:
        return DraftFields(fields, (f"it attends from {query.shape[-2]} tokens, and was given {tokens}",))

    def run(still: Tensor) -> Tensor:
        if "hidden_states" in kwargs:
            return _calls(site, args, kwargs | {"hidden_states": still})[0]
        return _calls(site, (still, *args[1:]), kwargs)[0]

    turned = run(hidden[:, :1].expand_as(hidden).contiguous())[0]  # heads, tokens, d
    if l_text > 0:
        turned = turned[:, l_text:] if fields["text"] == "first" else turned[:, :tokens]
    fields, kept = _promised(site, name, root, fields)
    open_ = (
        () if kept else ("v2w verify cannot ask it by itself, or finds that it does not keep its promise",)
    )
    try:
        rotary = measure(turned.unflatten(1, (t, -1))[:, :, 0], root, config)
    except Unmeasured as error:
        return DraftFields(
            fields, (f"its queries are turned by the frame's place, and how is open: {error}",)
        )
    if rotary is not None:
        fields["rotary"] = rotary.model_dump(exclude_defaults=True)
    return DraftFields(fields, open_)


def linear_attention(
    name: str, root: nn.Module, given: Arguments, t: int, config: dict[str, Any]
) -> DraftFields:
    """The same for one without softmax: its keys are found where they meet values, unlimited to what is positive."""
    args, kwargs = given
    hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    still = hidden[:, :1].expand_as(hidden).contiguous()
    if "hidden_states" in kwargs:
        kwargs = kwargs | {"hidden_states": still}
    else:
        args = (still, *args[1:])
    with _Watch(torch.matmul, unlimited=True) as watch:
        root.get_submodule(name)(*args, **kwargs)
    keys = watch.calls[0][1][0]  # heads, tokens, d
    try:
        rotary = measure(keys.unflatten(1, (t, -1))[:, :, 0], root, config)
    except Unmeasured as error:
        return DraftFields({}, (f"its keys are turned by the frame's place, and how is open: {error}",))
    if rotary is None:
        return DraftFields({}, ("its keys are not turned by the frame's place, which the operation wants",))
    return DraftFields({"rotary": rotary.model_dump(exclude_defaults=True)})


def _promised(
    site: nn.Module, name: str, root: nn.Module, fields: dict[str, Any]
) -> tuple[dict[str, Any], bool]:
    """The fields with which the attention, asked by itself, keeps the operation's promise, and whether it does.

    Some ask which of the text's tokens are words, and do not run without being told.
    """
    for words in ({}, {"text_mask": True}):
        operation = CausalAttention.model_validate({"at": name, **fields, **words})
        changed = deepcopy(site)
        operation.install(changed, name, 1, root)
        with suppress(Exception):  # whatever it makes of being called without
            promised = operation.check_invariants(site, changed, torch.Generator().manual_seed(0), 0.0)
            if all(kept.ok for kept in promised):
                return fields | words, True
    return fields, False


def _calls(site: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The queries (b heads tokens d) of every softmax attention that the site makes."""
    with _Watch(F.scaled_dot_product_attention) as watch:
        site(*args, **kwargs)
    return [call[0] for call in watch.calls]


class _Watch(TorchFunctionMode):
    """Notes what one function is given; `unlimited` lets negative values through, whose turns would be lost."""

    def __init__(self, function: Any, unlimited: bool = False):
        super().__init__()
        self.function, self.unlimited = function, unlimited
        self.calls: list[tuple[Any, ...]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.unlimited and func in (F.relu, torch.relu):
            return args[0]
        if func is self.function:
            self.calls.append(args or tuple(kwargs[key] for key in ("query", "key", "value")))
        return func(*args, **kwargs)

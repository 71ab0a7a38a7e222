"""A small configuration of the same class: for the probe, and for trials by the hundred.

What tells where frames meet and how they are turned stays as it is: kinds of blocks, widths of heads. Fewer layers,
two heads, narrow conditions. No name of a class is known here: entries are told by their names and values.
"""

import re
from collections.abc import Iterator
from typing import Any

LAYERS = re.compile(r"(^|_)(num_layers|layers|depth|num_\w*blocks)($|_)")
HEADS = re.compile(r"(^|_)heads$")
WIDTHS = re.compile(r"(_dim\d?|caption_channels|hidden_size)$")
AXES = re.compile(r"(axes|rope).*dim")
KEPT = re.compile(r"head_dim$|^(in|out)_|visual_dim$")
UNET = (64, 128)  # channels of a shrunk UNet: norms of 32 groups and heads of 64 channels go in


def smaller(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Configs like `config`, the smallest first; some may not build, or not run. The last is `config` itself."""
    counted = _counts(config)
    blocks = _blocks(counted)
    tries = [_widths(blocks, config), blocks, counted, config]
    yield from (small for i, small in enumerate(tries) if small not in tries[:i])


def head_width(config: dict[str, Any]) -> int | None:
    """Channels of one head, if the config says."""
    if isinstance(config.get("attention_head_dim"), int):
        return config["attention_head_dim"]
    lists = [value for key, value in config.items() if AXES.search(key) and _whole(value)]
    return sum(lists[0]) if lists else None


def _counts(config: dict[str, Any]) -> dict[str, Any]:
    small = dict(config)
    for key, value in config.items():
        if LAYERS.search(key) and _count(value):
            small[key] = min(value, 2)
        elif LAYERS.search(key) and _whole(value):
            # One number for each block, or the indices of some layers.
            indices = list(value) == sorted(set(value)) and value[0] == 0
            small[key] = [i for i in value if i < 2] if indices else [min(i, 2) for i in value]
    return small


def _blocks(config: dict[str, Any]) -> dict[str, Any]:
    """A UNet of its first and its last level; two heads."""
    small = dict(config)
    channels: Any = config.get("block_out_channels")
    if _whole(channels):
        n = len(channels)
        small["block_out_channels"] = [
            min(a, b) for a, b in zip((channels[0], channels[-1]), UNET, strict=True)
        ]
        for key, value in config.items():
            if isinstance(value, list | tuple) and len(value) == n and n > 2 and key != "block_out_channels":
                small[key] = [value[0], value[-1]]
    for key, value in small.items():
        if HEADS.search(key):
            if _count(value):
                small[key] = min(value, 2)
            elif _whole(value):
                small[key] = [min(heads, 2) for heads in value]
    return small


def _widths(config: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Widths of whole heads: the model's own, if it says how many heads it has, becomes two; others become few."""
    head = head_width(whole)
    if head is None or "block_out_channels" in whole:
        return config
    heads: Any = whole.get("num_attention_heads")
    values = {key: v for key, v in whole.items() if WIDTHS.search(key) and not KEPT.search(key) and _count(v)}
    chosen = {heads * head: 2 * head} if _count(heads) else {}
    for value in sorted(set(values.values()) - set(chosen)):
        if value % head == 0:  # what was equal stays equal, what was not stays apart
            chosen[value] = (2 + len(chosen)) * head
    small = {key: min(v, chosen[v]) for key, v in values.items() if v in chosen}
    return {**config, **small}


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _whole(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    )

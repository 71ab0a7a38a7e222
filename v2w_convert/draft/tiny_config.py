"""A small configuration of the same class: for the probe, and for trials by the hundred.

What decides where frames mix and how positions are encoded stays as it is: kinds of blocks, widths of heads. There are
fewer layers, two heads, narrow conditions. No class is known by its name: keys are recognised by their names and values.
"""

import re
from collections.abc import Iterator
from typing import Any, TypeGuard

LAYERS_KEY = re.compile(r"(^|_)(num_layers|layers|depth|num_\w*blocks)($|_)")
HEADS_KEY = re.compile(r"(^|_)heads$")
WIDTH_KEY = re.compile(r"(_dim\d?|caption_channels|hidden_size)$")
AXES_KEY = re.compile(r"(axes|rope).*dim")
KEPT_KEY = re.compile(r"head_dim$|^(in|out)_|visual_dim$")
UNET_CHANNELS = (64, 128)  # of a small UNet: norms of 32 groups and heads of 64 channels fit

Config = dict[str, Any]


def smaller_configs(config: Config) -> Iterator[Config]:
    """Configs like `config`, the smallest first; some may not build, or not run. The last is `config` itself."""
    fewer_layers = _fewer_layers(config)
    fewer_heads = _fewer_heads(_fewer_levels(fewer_layers))
    candidates = [_narrower(fewer_heads, config), fewer_heads, fewer_layers, config]
    yield from (small for i, small in enumerate(candidates) if small not in candidates[:i])


def head_width(config: Config) -> int | None:
    """Channels of one head; None if the config does not say."""
    width = config.get("attention_head_dim")
    if isinstance(width, int):
        return width
    lists = [value for key, value in config.items() if AXES_KEY.search(key) and _is_integers(value)]
    return sum(lists[0]) if lists else None


def _fewer_layers(config: Config) -> Config:
    small = dict(config)
    for key, value in config.items():
        if LAYERS_KEY.search(key) and _is_count(value):
            small[key] = min(value, 2)
        elif LAYERS_KEY.search(key) and _is_integers(value):
            # One number for each block, or the indices of some layers.
            are_indices = list(value) == sorted(set(value)) and value[0] == 0
            small[key] = [i for i in value if i < 2] if are_indices else [min(i, 2) for i in value]
    return small


def _fewer_levels(config: Config) -> Config:
    """A UNet of its first and its last level."""
    channels: Any = config.get("block_out_channels")
    if not _is_integers(channels):
        return config
    small, n = dict(config), len(channels)
    small["block_out_channels"] = [
        min(a, b) for a, b in zip((channels[0], channels[-1]), UNET_CHANNELS, strict=True)
    ]
    for key, value in config.items():
        if isinstance(value, list | tuple) and len(value) == n and n > 2 and key != "block_out_channels":
            small[key] = [value[0], value[-1]]
    return small


def _fewer_heads(config: Config) -> Config:
    """Two heads at most."""
    small = dict(config)
    for key, value in config.items():
        if HEADS_KEY.search(key) and _is_count(value):
            small[key] = min(value, 2)
        elif HEADS_KEY.search(key) and _is_integers(value):
            small[key] = [min(heads, 2) for heads in value]
    return small


def _narrower(small: Config, config: Config) -> Config:
    """`small` with narrow layers: the model's own width becomes that of two heads, other multiples a few heads."""
    head = head_width(config)
    if head is None or "block_out_channels" in config:
        return small
    heads: Any = config.get("num_attention_heads")
    widths = {
        key: value
        for key, value in config.items()
        if WIDTH_KEY.search(key) and not KEPT_KEY.search(key) and _is_count(value)
    }
    narrow = {heads * head: 2 * head} if _is_count(heads) else {}
    for width in sorted(set(widths.values()) - set(narrow)):
        if width % head == 0:  # equal widths stay equal, others stay different
            narrow[width] = (2 + len(narrow)) * head
    return {**small, **{key: min(v, narrow[v]) for key, v in widths.items() if v in narrow}}


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_integers(value: Any) -> TypeGuard[list[int] | tuple[int, ...]]:
    """Whether it is a list of integers, not empty."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    )

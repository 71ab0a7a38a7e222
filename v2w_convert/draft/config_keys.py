"""Numbers that were measured, as keys of the base's config and expressions over it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from v2w_convert.expression import evaluate_number

TEXT_LENGTH_KEY = re.compile(r"^(?!.*(rope|motion|pos)).*max.*(text|seq|token).*len")

# Parts of names by which configs and forwards refer to one thing.
SYNONYMS = {
    "text": {"text", "caption", "cross", "context", "prompt", "encoder"},
    "pooled_text": {"pooled", "pool"},
    "image_embeds": {"image", "img", "vision"},
}


def text_lengths(config: Mapping[str, Any]) -> dict[str, int]:
    """The keys that say how many tokens a prompt has at most, with their values."""
    return {
        key: value
        for key, value in config.items()
        if TEXT_LENGTH_KEY.search(key) and isinstance(value, int) and not isinstance(value, bool)
    }


def expression_for(value: float, expressions: Iterable[str], config: Mapping[str, Any]) -> str | None:
    """The first expression that can be evaluated over this config and gives `value`, of the same type."""
    for expression in expressions:
        try:
            found = evaluate_number(expression, config)
        except ValueError:
            continue
        if found == value and isinstance(found, int) == isinstance(value, int):
            return expression
    return None


def width_key(name: str, value: int, config: Mapping[str, Any]) -> str | int:
    """The key for the width of a condition.

    Args:
        name: The condition's.
        value: Its width.
        config: The base's.

    Returns:
        Of the keys with that value, the one whose name fits the condition's best; `value` if there is none.
    """
    wanted = _name_parts(name)
    scored = []
    for key, entry in config.items():
        if entry != value or isinstance(entry, bool) or not re.search(r"dim|channels", key):
            continue
        parts = _name_parts(key)
        foreign = SYNONYMS.keys() & (parts - wanted)
        scored.append((2 * len(foreign) - len(parts & wanted), key))
    return min(scored)[1] if scored else value


def channels_key(value: int, config: Mapping[str, Any], preferred: str) -> str | int:
    """The key for the number of a latent's channels; `value` if there is none.

    Args:
        value: The number.
        config: The base's.
        preferred: Whether keys that begin with `in` or with `out` come first.
    """
    keys = [key for key, v in config.items() if v == value and re.match(r"(in|out)_.*(channels|dim)$", key)]
    return min(keys, key=lambda key: (not key.startswith(preferred), len(key)), default=value)


def extra_channels(value: int, config: Mapping[str, Any]) -> str | None:
    """The expression for channels that the base takes besides a latent's; None if there is none."""
    ins = [key for key in config if re.match(r"in_.*(channels|dim)$", key)]
    outs = [key for key in config if re.match(r"out_.*(channels|dim)$", key)]
    candidates = [f"{a} - {b}" for a in ins for b in outs] + [f"{a} + 1" for a in ins]
    return expression_for(value, candidates, config)


def _name_parts(name: str) -> set[str]:
    """The parts of a name, and what each of them refers to."""
    parts = set(re.findall(r"[a-z]+|\d+", name.lower()))
    return parts | {thing for thing, synonyms in SYNONYMS.items() if parts & synonyms}

"""Numbers that were measured, as what the base's config says of them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from v2w_convert.expression import evaluate_number

TEXT_LENGTHS = re.compile(r"^(?!.*(rope|motion|pos)).*max.*(text|seq|token).*len")

# Words by which configs and forwards speak of one thing.
LIKE = {
    "text": {"text", "caption", "cross", "context", "prompt", "encoder"},
    "pooled_text": {"pooled", "pool"},
    "image_embeds": {"image", "img", "vision"},
}


def first_that_is(value: float, expressions: Iterable[str], config: Mapping[str, Any]) -> str | None:
    """The first expression that can be worked out from this config and gives `value`."""
    for expression in expressions:
        try:
            found = evaluate_number(expression, config)
        except ValueError:
            continue
        if found == value and isinstance(found, int) == isinstance(value, int):
            return expression
    return None


def width_of(name: str, value: int, config: Mapping[str, Any]) -> str | int:
    """The entry that gives the width of what the condition `name` is: the one whose name says so most, if any is so wide."""
    wanted = _words(name)
    scored = []
    for key, entry in config.items():
        if entry != value or isinstance(entry, bool) or not re.search(r"dim|channels", key):
            continue
        words = _words(key)
        foreign = set().union(*LIKE) & words - wanted
        scored.append((2 * len(foreign) - len(words & wanted), key))
    return min(scored)[1] if scored else value


def channels_of(value: int, config: Mapping[str, Any], order: str) -> str | int:
    """The entry for a latent's channels: `order` is which of in and out is asked first."""
    keys = [key for key, v in config.items() if v == value and re.match(r"(in|out)_.*(channels|dim)$", key)]
    return min(keys, key=lambda key: (not key.startswith(order), len(key)), default=value)


def difference_of(value: int, config: Mapping[str, Any]) -> str | None:
    """The entries for channels that the base takes beyond a latent's."""
    ins = [key for key in config if re.match(r"in_.*(channels|dim)$", key)]
    outs = [key for key in config if re.match(r"out_.*(channels|dim)$", key)]
    tries = [f"{a} - {b}" for a in ins for b in outs] + [f"{a} + 1" for a in ins]
    return first_that_is(value, tries, config)


def _words(name: str) -> set[str]:
    """The pieces of a name, and for each what it is about."""
    pieces = set(re.findall(r"[a-z]+|\d+", name.lower()))
    return pieces | {about for about, words in LIKE.items() if pieces & words}

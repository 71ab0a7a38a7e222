"""Patterns of module paths: `*` stays within one component, `**` crosses dots, `[12]` is one of the characters."""
# A pattern of n stars takes time like the n-th power of a path's length: hence the limits.

import difflib
import re
from collections.abc import Iterable
from functools import cache

MAX_LENGTH = 200  # characters
MAX_WILDCARDS = 4  # stars of either kind


def check_pattern(pattern: str) -> str:
    """The pattern itself.

    Raises:
        ValueError: It is no pattern, or would take long to match.
    """
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    if len(re.findall(r"\*\*?", pattern)) > MAX_WILDCARDS:
        raise ValueError(f"more than {MAX_WILDCARDS} of * and **")
    try:
        _compile(pattern)
    except re.error as error:
        raise ValueError(f"not a pattern: {error}") from None
    return pattern


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*\.|\*\*|\*|\[[\w-]+\])", pattern)
    special = {"**.": r"(?:.*\.)?", "**": ".*", "*": "[^.]*"}
    return re.compile("".join(special.get(p, p if p.startswith("[") else re.escape(p)) for p in parts))


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern matches the whole path."""
    return _compile(pattern).fullmatch(path) is not None


def nearest_paths(pattern: str, paths: Iterable[str], count: int = 3) -> list[str]:
    """The paths most similar to the pattern, numbers replaced by stars: what its author may have meant."""
    folded = {re.sub(r"\.\d+(?=\.|$)", ".*", path): None for path in paths}
    return difflib.get_close_matches(pattern, list(folded), n=count, cutoff=0.3)

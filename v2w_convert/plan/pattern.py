"""Patterns of module paths: `*` stays within one component, `**` crosses dots, `[12]` is one of the characters."""
# A pattern of n stars takes a time like the n-th power of a path's length: hence few of them.

import difflib
import re
from collections.abc import Iterable
from functools import cache

LONGEST = 200  # characters
MAX_WILDCARDS = 4  # stars of either kind


def check_pattern(pattern: str) -> str:
    """The pattern itself. Raises ValueError if it is none, or would take long to match."""
    if len(pattern) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
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
    return _compile(pattern).fullmatch(path) is not None


def nearest_paths(pattern: str, paths: Iterable[str], count: int = 3) -> list[str]:
    """Paths that look most like the pattern, numbers folded: what its author may have meant."""
    folded = {re.sub(r"\.\d+(?=\.|$)", ".*", path): None for path in paths}
    return difflib.get_close_matches(pattern, list(folded), n=count, cutoff=0.3)

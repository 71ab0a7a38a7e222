"""Patterns of module paths: `*` stays within one component, `**` crosses dots, `[12]` is one of the characters."""

import difflib
import re
from collections.abc import Iterable
from functools import cache


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*\.|\*\*|\*|\[[\w-]+\])", pattern)
    special = {"**.": r"(?:.*\.)?", "**": ".*", "*": "[^.]*"}
    return re.compile("".join(special.get(p, p if p.startswith("[") else re.escape(p)) for p in parts))


def matches(pattern: str, path: str) -> bool:
    return _compile(pattern).fullmatch(path) is not None


def nearest(pattern: str, paths: Iterable[str], count: int = 3) -> list[str]:
    """Paths that look most like the pattern, numbers folded: what its author may have meant."""
    folded = {re.sub(r"\.\d+(?=\.|$)", ".*", path): None for path in paths}
    return difflib.get_close_matches(pattern, list(folded), n=count, cutoff=0.3)

"""Module paths as text that a person can read."""

import re
from collections.abc import Iterable

NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def fold_paths(paths: Iterable[str]) -> dict[str, int]:
    """Module paths that differ only in numbers, as one.

    Returns:
        Each folded path, such as `blocks.{0…3}.attn1`, and how many paths it stands for.
    """
    groups: dict[str, list[list[int]]] = {}
    for path in paths:
        numbers = [int(number) for number in NUMBER.findall(path)]
        groups.setdefault(NUMBER.sub("{}", path), []).append(numbers)
    folded = {}
    for shape, found in groups.items():
        spans = [sorted(set(column)) for column in zip(*found, strict=True)]
        texts = [_span(span) for span in spans]
        pieces = shape.split("{}")
        name = "".join(p + t for p, t in zip(pieces, [*texts, ""], strict=True))
        folded[name] = len(found)
    return folded


def _span(numbers: list[int]) -> str:
    """Ascending numbers as 3, {0…3}, or {0,3} where some in between are missing."""
    first, last = numbers[0], numbers[-1]
    if first == last:
        return str(first)
    whole = len(numbers) == last - first + 1 or len(numbers) > 6
    return "{" + (f"{first}…{last}" if whole else ",".join(map(str, numbers))) + "}"

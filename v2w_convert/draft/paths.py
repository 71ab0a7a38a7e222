"""Paths of modules -> the patterns that a plan writes, for these modules and no others."""

import re
from collections.abc import Callable, Iterable
from itertools import dropwhile, takewhile

from torch import nn

from v2w_convert.plan.pattern import matches

Fits = Callable[[str, nn.Module], bool]


def starred(path: str, model: nn.Module) -> str:
    """The path with a star for every place in a list of modules: those are many of one kind, those of a sequence not."""
    parts = path.split(".")
    return ".".join(
        "*"
        if part.isdigit() and isinstance(model.get_submodule(".".join(parts[:i])), nn.ModuleList)
        else part
        for i, part in enumerate(parts)
    )


def patterns(paths: Iterable[str], tiny: nn.Module, whole: nn.Module, fits: Fits) -> list[str]:
    """Patterns that match exactly `paths` in the model `tiny`, and in `whole` only modules that `fits` accepts.

    The fewest that were found: a star for places in lists, `**.` for paths that end alike, `[12]` for names that
    differ in a digit.
    """
    wanted = set(paths)
    names = [name for name, _ in tiny.named_modules() if name]
    modules = {name: module for name, module in whole.named_modules() if name}

    def exact(pattern: str) -> bool:
        hit = {name for name in names if matches(pattern, name)}
        return hit <= wanted and all(
            fits(name, module) for name, module in modules.items() if matches(pattern, name)
        )

    single = [p if exact(p) else path for path in paths for p in (starred(path, tiny),)]
    single = list(dict.fromkeys(single))
    merged: list[str] = []
    while single:
        pattern = single[0]
        chosen, group = pattern, [pattern]
        parts = pattern.split(".")
        for length in range(1, len(parts)):
            tail = ".".join(parts[-length:])
            alike = [p for p in single if p.endswith("." + tail)]
            if tail[0] not in "*0123456789" and len(alike) > 1 and exact(f"**.{tail}"):
                chosen, group = f"**.{_shared(alike)}", alike
                break
        merged.append(chosen)
        single = [p for p in single if p not in group]
    return _digits(merged, exact)


def _shared(alike: list[str]) -> str:
    """The longest ending that these patterns share, from a name on."""
    columns = zip(*(reversed(pattern.split(".")) for pattern in alike), strict=False)
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    return ".".join(dropwhile(lambda part: part == "*" or part.isdigit(), reversed(shared)))


def _digits(found: list[str], exact: Callable[[str], bool]) -> list[str]:
    """Patterns that differ in the digit of one name, as one."""
    groups: dict[str, list[str]] = {}
    for pattern in found:
        groups.setdefault(re.sub(r"(?<=[a-z])\d(?=\.|$)", "#", pattern), []).append(pattern)
    merged = []
    for shape, members in groups.items():
        digits = [m[shape.index("#")] for m in members] if shape.count("#") == 1 else []
        one = shape.replace("#", f"[{''.join(sorted(digits))}]")
        merged += [one] if len(digits) > 1 and exact(one) else members
    return merged

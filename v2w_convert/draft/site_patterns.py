"""Paths of modules -> the patterns that a plan writes, for these modules and no others."""

import re
from collections.abc import Callable, Iterable
from itertools import dropwhile, takewhile

from torch import nn

from v2w_convert.plan.pattern import matches

Fits = Callable[[str, nn.Module], bool]


def star_path(path: str, model: nn.Module) -> str:
    """The path with a star for every index in a ModuleList, whose modules are alike; not for those in a Sequential."""
    components = path.split(".")
    return ".".join(
        "*"
        if component.isdigit() and isinstance(model.get_submodule(".".join(components[:i])), nn.ModuleList)
        else component
        for i, component in enumerate(components)
    )


def patterns_for(paths: Iterable[str], tiny: nn.Module, whole: nn.Module, fits: Fits) -> list[str]:
    """Patterns that match exactly `paths` in the tiny model, and only modules that fit in the whole model.

    As few as were found: a star for indices, `**.` for paths with one ending, `[12]` for names that differ in a digit.

    Args:
        paths: Of modules of the tiny model.
        tiny: The tiny model.
        whole: The model of the real size.
        fits: Whether a module of the whole model, with its path, may be matched.
    """
    paths = list(paths)
    wanted = set(paths)
    names = [name for name, _ in tiny.named_modules() if name]
    modules = {name: module for name, module in whole.named_modules() if name}

    def is_exact(pattern: str) -> bool:
        matched = {name for name in names if matches(pattern, name)}
        return matched <= wanted and all(
            fits(name, module) for name, module in modules.items() if matches(pattern, name)
        )

    starred = {path: star_path(path, tiny) for path in paths}
    single = list(dict.fromkeys(star if is_exact(star) else path for path, star in starred.items()))
    return _merge_digits(_merge_endings(single, is_exact), is_exact)


def _merge_endings(patterns: list[str], is_exact: Callable[[str], bool]) -> list[str]:
    """Patterns with one ending as one `**.` pattern."""
    merged: list[str] = []
    while patterns:
        chosen, group = patterns[0], [patterns[0]]
        components = chosen.split(".")
        for length in range(1, len(components)):
            ending = ".".join(components[-length:])
            alike = [p for p in patterns if p.endswith("." + ending)]
            if ending[0] not in "*0123456789" and len(alike) > 1 and is_exact(f"**.{ending}"):
                chosen, group = f"**.{_shared_ending(alike)}", alike
                break
        merged.append(chosen)
        patterns = [p for p in patterns if p not in group]
    return merged


def _shared_ending(patterns: list[str]) -> str:
    """The longest ending that these patterns share and that begins with a name."""
    columns = zip(*(reversed(pattern.split(".")) for pattern in patterns), strict=False)
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    return ".".join(dropwhile(lambda component: component == "*" or component.isdigit(), reversed(shared)))


def _merge_digits(patterns: list[str], is_exact: Callable[[str], bool]) -> list[str]:
    """Patterns that differ in the digit of one name as one."""
    groups: dict[str, list[str]] = {}
    for pattern in patterns:
        groups.setdefault(re.sub(r"(?<=[a-z])\d(?=\.|$)", "#", pattern), []).append(pattern)
    merged = []
    for shape, members in groups.items():
        digits = [m[shape.index("#")] for m in members] if shape.count("#") == 1 else []
        one = shape.replace("#", f"[{''.join(sorted(digits))}]")
        merged += [one] if len(digits) > 1 and is_exact(one) else members
    return merged

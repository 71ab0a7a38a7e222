"""Paths with fields in braces, as descriptions of data sets have them. Nothing of Python's format language is used."""

import re
from collections.abc import Collection

MAX_LENGTH = 1000
MAX_NAME = 200
NAME = "video_key"
FIELD = re.compile(rf"\{{(?:({NAME})|([a-z_]+)(?::0([1-9])d)?)\}}")


def check_template(template: str, numbers: Collection[str]) -> str:
    """Return the template: a relative path whose fields are {video_key} and these numbers.

    A number may have a width of one digit: {chunk_index:03d}.

    Raises:
        ValueError: It is anything else.
    """
    if not template.isprintable() or len(template) > MAX_LENGTH:
        raise ValueError(f"not a path: more than {MAX_LENGTH} characters, or some that cannot be shown")
    rest = FIELD.sub(lambda field: "x" if field[1] or field[2] in numbers else "{}", template)
    if "{" in rest or "}" in rest:
        known = ", ".join(f"{{{number}:03d}}" for number in numbers)
        raise ValueError(f"only {known} and {{{NAME}}} may stand in braces")
    if any(part in ("", ".", "..") for part in rest.split("/")):
        raise ValueError("points outside the data set, or is no plain path")
    return template


def fill_template(template: str, video_key: str, **numbers: int) -> str:
    """The path that a checked template names."""

    def value(field: re.Match[str]) -> str:
        return video_key if field[1] else str(numbers[field[2]]).zfill(int(field[3] or 1))

    return FIELD.sub(value, template)


def check_name(name: str) -> str:
    """Return the name of a feature, which may become a folder's.

    Raises:
        ValueError: It cannot be a folder's, or shown.
    """
    if not name.isprintable() or "/" in name or name in ("", ".", "..") or len(name) > MAX_NAME:
        raise ValueError("a name has no slash, 1 to 200 characters, and can be shown")
    return name

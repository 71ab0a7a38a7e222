"""Paths with fields in braces, as descriptions of data sets have them. Nothing of Python's format language is used."""

import re

MAX_LENGTH = 1000
MAX_NAME = 200
FIELD = re.compile(r"\{(chunk_index|file_index)(?::0([1-9])d)?\}|\{(video_key)\}")


def check_template(template: str) -> str:
    """Return the template: a relative path whose fields are {chunk_index}, {file_index} and {video_key}.

    A number may have a width of one digit: {chunk_index:03d}.

    Raises:
        ValueError: It is anything else.
    """
    if not template.isprintable() or len(template) > MAX_LENGTH:
        raise ValueError(f"not a path: more than {MAX_LENGTH} characters, or some that cannot be shown")
    rest = FIELD.sub("x", template)
    if "{" in rest or "}" in rest:
        raise ValueError("only {chunk_index:03d}, {file_index:03d} and {video_key} may stand in braces")
    if any(part in ("", ".", "..") for part in rest.split("/")):
        raise ValueError("points outside the data set, or is no plain path")
    return template


def fill_template(template: str, *, chunk_index: int, file_index: int, video_key: str) -> str:
    """The path that a checked template names."""
    numbers = {"chunk_index": chunk_index, "file_index": file_index}

    def value(field: re.Match[str]) -> str:
        name, width, _ = field.groups()
        return video_key if name is None else str(numbers[name]).zfill(int(width or 1))

    return FIELD.sub(value, template)


def check_name(name: str) -> str:
    """Return the name of a feature, which may become a folder's.

    Raises:
        ValueError: It cannot be a folder's, or shown.
    """
    if not name.isprintable() or "/" in name or name in ("", ".", "..") or len(name) > MAX_NAME:
        raise ValueError("a name has no slash, 1 to 200 characters, and can be shown")
    return name

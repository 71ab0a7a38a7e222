"""Small helpers for generated Markdown."""

import inspect
import re
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells may hold Markdown, no line breaks."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """`text` on one line, with bars escaped."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def code(text: object) -> str:
    """`text` as inline code; nothing for nothing."""
    return f"`{text}`" if str(text) else ""


def docstring(thing: object) -> tuple[str, dict[str, str]]:
    """A docstring's prose, and what its `Attributes:` or `Args:` section says of each field."""
    lines = inspect.cleandoc(getattr(thing, "__doc__", None) or "").splitlines()
    prose: list[str] = []
    fields: dict[str, str] = {}
    section = field = ""
    for line in lines:
        if heading := re.fullmatch(
            r"(Attributes|Args|Returns|Raises|Example|Examples|Note|Yields|Sources?):", line
        ):
            section = heading.group(1)
        elif section in ("Attributes", "Args"):
            if entry := re.fullmatch(r" {4}(\w+)(?: \([^)]*\))?: (.*)", line):
                field = entry.group(1)
                fields[field] = entry.group(2)
            elif field and line.strip():
                fields[field] += " " + line.strip()
        elif not section:
            prose.append(line)
    return "\n".join(prose).strip(), fields

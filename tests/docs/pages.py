"""What the tests read of README and docs: code blocks, with included files put in, and commands."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


class Block(NamedTuple):
    """A fenced block of code: its language ("" where none is given) and its text."""

    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in re.finditer(
        r"^( *)```(\w*)\n(.*?)^\1```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        indent, language, text = found.groups()
        text = "\n".join(line.removeprefix(indent) for line in text.splitlines())
        yield Block(language, re.sub(r'^--8<-- "(.+)"$', included, text, flags=re.MULTILINE))


def included(match: re.Match[str]) -> str:
    """What the snippets extension puts in place of a reference: a file, or a section of it."""
    name, _, section = match.group(1).partition(":")
    text = (EXAMPLES / name).read_text("utf-8")
    if section:
        start, end = (f"# --8<-- [{word}:{section}]\n" for word in ("start", "end"))
        text = text[text.index(start) + len(start) : text.index(end)]
    return text


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `v2w` command in a page's blocks, in order."""
    found = []
    for block in blocks(page):
        if block.language not in ("", "console"):
            continue
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True) if "v2w " in line else []
            if words[:1] == ["v2w"]:
                found.append(words[1:])
    return found


def example(name: str) -> ModuleType:
    """A module of docs/examples."""
    spec = importlib.util.spec_from_file_location(f"docs_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

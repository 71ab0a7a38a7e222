"""What README and docs show can be read: Python parses, names exist, commands have these arguments."""

import ast
from pathlib import Path
from typing import Any

import pytest
import typer

import v2w_convert
from tests.docs.pages import PAGES, ROOT, blocks, commands
from v2w_convert.cli import app

GROUP: Any = typer.main.get_command(app)


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_python_parses_and_imports_what_there_is(page: Path) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module == "v2w_convert":
                missing = [name.name for name in node.names if not hasattr(v2w_convert, name.name)]
                assert not missing, f"{page}: v2w_convert has no {missing}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_commands_are_the_command_lines(page: Path) -> None:
    for words in commands(page):
        if words[0].startswith("-"):
            continue
        # Raises for an unknown command or option, a missing one, and a value of another type.
        GROUP.commands[words[0]].make_context(words[0], words[1:])


def test_some_commands_are_found() -> None:
    found = {words[0] for words in commands(ROOT / "README.md")}
    assert {"inspect", "convert", "verify", "finetune", "rollout"} <= found


def test_readme_is_short_and_names_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 160
    assert max(map(len, lines)) <= 120
    assert "make demo" in "\n".join(lines)
    assert "make test" in "\n".join(lines)


def test_the_moving_picture_is_small() -> None:
    assert (ROOT / "docs/rollout.gif").stat().st_size < 2_000_000

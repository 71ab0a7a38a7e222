"""Commands as a user types them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from v2w_convert.cli import run

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, noted: str = "") -> str:
    """Runs `v2w …`, which must be the user's mistake; returns its one line. Before it come lines with the words `noted`."""
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert code == 2, err
    *notes, line = err.splitlines()
    assert all(noted and any(words in note for words in noted.split(" / ")) for note in notes), notes
    assert line.startswith("v2w: ")
    assert "\n" not in line
    assert not out
    return line


def printed(
    capsys: pytest.CaptureFixture[str], command: str, *arguments: object, code: int = 0
) -> dict[str, Any]:
    """Runs `v2w COMMAND … --json`, which must end with `code`; returns what it prints, which fits the schema.

    `export-web` is `export` with `--web`, which prints something else.
    """
    capsys.readouterr()
    found = run([command.removesuffix("-web"), *(str(a) for a in arguments), "--json"])
    out, err = capsys.readouterr()
    assert found == code, err
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    jsonschema.validate(result, json.loads((SCHEMAS / f"{command}.schema.json").read_text(encoding="utf-8")))
    assert result["ok"] == (code == 0)
    return result

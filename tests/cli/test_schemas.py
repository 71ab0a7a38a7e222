"""The schemas in docs/schemas are those of this code. That real output fits them: `tests.cli.conftest.v2w`."""

import json
from pathlib import Path

import jsonschema
import pytest

from v2w_convert.cli import COMMANDS, run
from v2w_convert.cli.schemas import RESULTS, files

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
AGAIN = "they are generated: python -m v2w_convert.cli.schemas docs/schemas"


def test_the_files_are_current() -> None:
    expected = files()
    assert {file.name for file in FOLDER.iterdir()} == {*expected, "verify.schema.json"}, AGAIN
    for name, text in expected.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, AGAIN


def test_every_command_has_one_and_every_field_is_described() -> None:
    assert {*RESULTS, "verify"} - {"export-web"} == set(COMMANDS)
    for name in files():
        schema = json.loads((FOLDER / name).read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        for definition in (schema, *schema.get("$defs", {}).values()):
            assert definition["description"]
            assert name.startswith("error") or all(
                field["description"] for field in definition["properties"].values()
            )


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path / "x"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)
    jsonschema.validate(error, json.loads((FOLDER / "error.schema.json").read_text()))

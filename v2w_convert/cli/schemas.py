"""The JSON schema of what each command prints with `--json`.

    python -m v2w_convert.cli.schemas docs/schemas

writes them. They are generated from the result dataclasses, whose docstrings describe the fields. That of
`verify`, which is also the schema of report.json, is written by hand.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

import v2w_convert

RESULTS = {
    "inspect": "InspectResult",
    "plan": "PlanResult",
    "convert": "ConvertResult",
    "record": "RecordResult",
    "budget": "Budget",
    "data": "DataDescription",
    "finetune": "FinetuneResult",
    "rollout": "RolloutResult",
    "play": "PlayResult",
    "evaluate": "EvaluateResult",
    "export": "ExportResult",
    "export-web": "WebExportResult",  # with --web
}
JSON_WORDS = {"None": "null", "True": "true", "False": "false"}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ERROR = {
    "$schema": DIALECT,
    "title": "v2w --json, on a mistake of the user",
    "description": "What every command prints with exit code 2.",
    "type": "object",
    "properties": {
        "ok": {"const": False},
        "error": {
            "type": "object",
            "properties": {
                "asked": {"type": "string", "description": "What was asked for."},
                "found": {"type": "string", "description": "What was found instead."},
                "try": {"type": "string", "description": "What to try; may be empty."},
            },
            "required": ["asked", "found", "try"],
            "additionalProperties": False,
        },
    },
    "required": ["ok", "error"],
    "additionalProperties": False,
}


def schema(command: str) -> dict[str, Any]:
    """The schema of what `v2w COMMAND --json` prints when it succeeds."""
    kind = getattr(v2w_convert, RESULTS[command])
    generated = TypeAdapter(kind).json_schema(mode="serialization")
    definitions = generated.pop("$defs", {})
    classes = _dataclasses(kind)
    for name, definition in definitions.items():
        _describe(definition, classes.get(name))
    _describe(generated, kind)
    if "ok" not in generated["properties"]:
        ok = {"type": "boolean", "description": _ok_description(kind)}
        generated["properties"] = {"ok": ok, **generated["properties"]}
        generated["required"] = ["ok", *generated["required"]]
    head = {"$schema": DIALECT, "title": f"v2w {command.replace('-web', ' --web')} --json"}
    return head | generated | ({"$defs": definitions} if definitions else {})


def _describe(definition: dict[str, Any], kind: type | None) -> None:
    """Take over what the class's docstring says of each field. All fields are always printed, and no others."""
    if "properties" not in definition:
        return
    definition.pop("title", None)
    definition["required"] = list(definition["properties"])
    definition["additionalProperties"] = False
    documented: dict[str, str] = {}
    for parent in reversed(kind.__mro__ if kind is not None else ()):
        documented |= _attributes(parent.__doc__ or "")
    definition["description"] = (definition.get("description") or "").strip().split("\n")[0]
    for name, field in definition["properties"].items():
        for unwanted in ("title", "default"):
            field.pop(unwanted, None)
        if name in documented:
            field["description"] = documented[name]


def _dataclasses(kind: Any) -> dict[str, type]:
    """The dataclasses that occur in a dataclass, by name."""
    found: dict[str, type] = {}
    if is_dataclass(kind) and isinstance(kind, type):
        found[kind.__name__] = kind
        for field in kind.__dataclass_fields__.values():
            found |= _dataclasses(field.type)
    for argument in get_args(kind):
        found |= _dataclasses(argument)
    return found


def _attributes(docstring: str) -> dict[str, str]:
    """The `Attributes:` section of a Google docstring: name -> text."""
    _, _, section = docstring.partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?= {8}\w+:)", "\n" + section):
        name, _, text = entry.strip().partition(":")
        if name.isidentifier():
            found[name] = re.sub(
                r"\b(None|True|False)\b", lambda word: JSON_WORDS[word[0]], " ".join(text.split())
            )
    return found


def _ok_description(kind: type) -> str:
    ok: Callable[..., Any] | None = getattr(getattr(kind, "ok", None), "fget", None)
    return " ".join(
        ((ok.__doc__ if ok else None) or "Always true: a mistake is reported as an error.").split()
    )


def files() -> dict[str, str]:
    """Name and text of every schema file."""
    schemas = {command: schema(command) for command in RESULTS} | {"error": ERROR}
    return {
        f"{name}.schema.json": json.dumps(content, indent=1, allow_nan=False) + "\n"
        for name, content in schemas.items()
    }


def main() -> None:
    """Write the schema files into the folder that is named."""
    [folder] = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

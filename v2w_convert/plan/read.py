"""YAML to a checked plan: every fault at once, each with its line and field."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from v2w_convert.errors import V2WError
from v2w_convert.plan.grammar import Plan

LARGEST = 1_000_000  # bytes


def shipped() -> dict[str, Path]:
    """The plans that come with the package: name -> file."""
    inside = Path(str(files("v2w_convert") / "plans"))
    # A checkout keeps them beside the package, a wheel inside of it.
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "plans"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_plan(file: Path) -> Plan:
    """The plan in a YAML file. Raises V2WError with all faults."""
    asked = f"read the plan {file}"
    if not file.is_file():
        raise V2WError(
            asked, "no such file", f"a YAML file, or one of the shipped plans: {', '.join(shipped())}"
        )
    if file.stat().st_size > LARGEST:
        raise V2WError(asked, f"it is larger than {LARGEST} bytes")
    try:
        text = file.read_text(encoding="utf-8")
        # Aliases can make a small file huge, and a plan has no use for them.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise V2WError(asked, "it uses YAML aliases (*name)", "write the values out")
        node = yaml.compose(text, yaml.SafeLoader)
        lines = _lines(node, asked)
        data = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise V2WError(asked, "it is not UTF-8 text") from None
    except RecursionError:
        raise V2WError(asked, "it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise V2WError(asked, f"it is not plain YAML: {' '.join(str(error).split())}") from None
    return parse_plan(data, asked, lines)


def parse_plan(data: Any, asked: str, lines: dict[tuple, int] | None = None) -> Plan:
    """A plan from plain data; `lines` maps paths of fields to lines of a file."""
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        raise V2WError(asked, [_fault(e, lines or {}) for e in error.errors()]) from None


def _fault(error: Any, lines: dict[tuple, int]) -> str:
    where = tuple(error["loc"])
    line = next((lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in lines), None)
    at = ".".join(map(str, where)) or "the plan"
    message = (
        "unknown field" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    )
    return (f"line {line}: " if line else "") + f"{at}: {message}"


def _lines(node: yaml.Node | None, asked: str, path: tuple = ()) -> dict[tuple, int]:
    """Where each field of the document is written. Refuses a key that is written twice."""
    found: dict[tuple, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            if here in found:
                raise V2WError(asked, f"line {key.start_mark.line + 1}: {key.value} is written twice")
            found[here] = key.start_mark.line + 1
            found |= _lines(value, asked, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found[(*path, index)] = value.start_mark.line + 1
            found |= _lines(value, asked, (*path, index))
    return found

"""Read a plan from YAML: all faults at once, each with its line and field."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from v2w_convert.errors import V2WError
from v2w_convert.noise import NoiseSpec
from v2w_convert.operations import OPERATIONS
from v2w_convert.operations.rotary import Rotary
from v2w_convert.plan.document import Lines, read_document
from v2w_convert.plan.grammar import Call, Condition, LatentsArgument, Plan

KINDS: tuple[type[BaseModel], ...] = (Plan, Call, LatentsArgument, Condition, NoiseSpec, Rotary, *OPERATIONS)
FIELDS = sorted({name for kind in KINDS for name in kind.model_fields})


def shipped_plans() -> dict[str, Path]:
    """The plans that come with the package: name -> file."""
    inside = Path(str(files("v2w_convert") / "plans"))
    # A checkout keeps them beside the package, a wheel inside of it.
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "plans"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_plan(file: Path) -> Plan:
    """The plan in a YAML file.

    Raises:
        V2WError: It is no plan; with all faults.
    """
    data, lines = read_document(file)
    return parse_plan(data, f"read the plan {file}", lines)


def parse_plan(data: Any, asked: str, lines: Lines | None = None) -> Plan:
    """A plan from plain data.

    Args:
        data: As JSON or YAML has it.
        asked: What was asked for, for the error.
        lines: The line of each field in its file.

    Raises:
        V2WError: It is no plan; with all faults.
    """
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        raise V2WError(asked, [_fault(e, lines or {}) for e in error.errors()]) from None


def _fault(error: Any, lines: Lines) -> str:
    where = tuple(error["loc"])
    line = next((lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in lines), None)
    at = ".".join(f"{part!s:.80}" for part in where) or "the plan"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = get_close_matches(str(where[-1]), FIELDS, n=1)
        message = "unknown field" + (f", nearest is {near[0]}" if near else "")
    return (f"line {line}: " if line else "") + f"{at}: {message}"

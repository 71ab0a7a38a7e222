"""Settings in files: what `--config` reads, and what is saved beside a result.

A file of settings is YAML or JSON; its keys are names of a settings model's fields.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from v2w_convert.errors import V2WError
from v2w_convert.new_file import write_text
from v2w_convert.plan.document import Lines, read_document
from v2w_convert.strict_json import read_object

CONFIG = "config.yaml"  # in the folder that a command writes
Model = TypeVar("Model", bound=BaseModel)


def read_settings(
    model: type[Model], file: Path | None, flags: Mapping[str, Any], asked: str, try_: str = ""
) -> Model:
    """Settings from a file and from flags, which take precedence.

    Args:
        model: The settings model.
        file: A YAML or JSON file, or None.
        flags: Values by the names of fields.
        asked: What the user asked for, for the error.
        try_: What to try, for the error.

    Raises:
        V2WError: With all faults, each with its flag, or its file and line.
    """
    data: dict[str, Any] = {}
    lines: Lines = {}
    if file is not None:
        data, lines = _read(file)
    try:
        return model.model_validate({**data, **flags})
    except ValidationError as error:
        faults = [_fault(e, model, file, lines, flags) for e in error.errors()]
        raise V2WError(asked, faults, try_) from None


def save_settings(settings: BaseModel, file: Path, title: str) -> None:
    """Write settings as YAML that `--config` reads.

    Args:
        settings: What to write, defaults included.
        file: Where; an existing file is replaced.
        title: A comment for the first line.

    Raises:
        V2WError: The file cannot be written.
    """
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(file, f"# {title}\n{text}", replace=True)


def _read(file: Path) -> tuple[dict[str, Any], Lines]:
    if file.suffix == ".json" and file.is_file():
        return read_object(file), {}
    asked = f"read the settings in {file}"
    data, lines = read_document(file, asked, "a YAML or JSON file of settings")
    if data is None:
        return {}, {}
    if not isinstance(data, dict):
        raise V2WError(asked, "it does not hold names and values", "a line for each setting, NAME: VALUE")
    return data, lines


def _fault(
    error: Any, model: type[BaseModel], file: Path | None, lines: Lines, flags: Mapping[str, Any]
) -> str:
    """One fault, with the flag or the line that it is at."""
    where = tuple(error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if not where:  # of several fields together: their names in backticks become flags
        for name in model.model_fields:
            message = message.replace(f"`{name}`", _flag(name))
        return message
    name = str(where[0])
    if error["type"] == "missing":
        return f"{_flag(name)} is missing"
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, model.model_fields, n=1)
        message = "unknown setting" + (f", nearest is {near[0]}" if near else "")
    if name in flags:
        return f"{_flag(name)}: {message}"
    line = f", line {lines[where[:1]]}" if where[:1] in lines else ""
    return f"{file}{line}: {name:.80}: {message}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

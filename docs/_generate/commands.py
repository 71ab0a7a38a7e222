"""The command-line reference, from the commands themselves."""

from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from docs._generate.markdown import code, table
from v2w_convert.cli import app

HEAD = """# Commands

`v2w COMMAND --help` prints the same. In general:

- `-o`/`--output` names what a command writes. Existing files and folders that another run made are not overwritten.
- `--json` prints a single JSON object as the last line of standard output; its form is in the [schemas](schemas.md).
- `--config FILE` reads settings from YAML or JSON with the settings' names as keys, such as `action_dim: 7`. Flags override
  it. The resolved settings are saved with the output.
- Exit codes: 0 done, 1 a claim does not hold or an export differs from torch, 2 a mistake in the command or the input,
  stated in one line, 3 (`v2w verify --budget`) no claim fails, but not all claims of the core could be measured. 130 after
  Ctrl-C, 143 after SIGTERM, 141 if nobody reads standard output, 70 after a fault of v2w.

`v2w --install-completion` sets up shell completion.
"""


def commands_page() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(app)
    return "\n".join([HEAD, *(_section(name, command) for name, command in group.commands.items())])


def _section(name: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name != "argument"]
    usage = " ".join(["v2w", name, *(_metavar(p) for p in arguments), *_required(options), "[OPTIONS]"])
    text = [f"## v2w {name}", "", command.help or "", "", f"```text\n{usage}\n```", ""]
    if arguments:
        text.append(table(["argument", "meaning"], [(code(_metavar(p)), p.help or "") for p in arguments]))
    if options:
        text.append(table(["option", "value", "default", "meaning"], map(_option, options)))
    return "\n".join(text)


REQUIRED = "[required]"  # in the help of an option that --config may give, too


def _is_required(parameter: Any) -> bool:
    return bool(parameter.required) or (parameter.help or "").endswith(REQUIRED)


def _required(options: list[Any]) -> list[str]:
    return [f"{min(p.opts, key=len)} {_value(p)}" for p in options if _is_required(p)]


def _option(parameter: Any) -> tuple[str, str, str, str]:
    names = ", ".join(code(name) for name in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    meaning = (parameter.help or "").removesuffix(REQUIRED)
    if _is_required(parameter):
        shown = "required"
    elif parameter.is_flag or default is None or callable(default):
        shown = ""
    else:
        shown = code(getattr(default, "value", default))
    return names, "" if parameter.is_flag else code(_value(parameter)), shown, meaning


def _value(parameter: Any) -> str:
    """What is written after an option."""
    if parameter.metavar:
        return str(parameter.metavar)
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", str)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " / ".join(str(choice.value) for choice in annotation)
    if get_origin(annotation) is Literal:
        return " / ".join(map(str, get_args(annotation)))
    return {Path: "PATH", int: "INTEGER", float: "NUMBER"}.get(annotation, "TEXT")


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())

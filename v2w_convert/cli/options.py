"""Arguments that several commands share, and flags that are generated from a settings model.

A settings model is a pydantic model whose fields have a default and a description. `takes_settings` gives a
command one flag for each field, and `--config`. Nothing heavy is imported here, so that `v2w --help` is fast.
"""

import inspect
import types
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from v2w_convert.config_file import read_settings
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError
from v2w_convert.settings import SLIPS

# Sections of a command's help, in their order. Flags that are in none are in the last but one.
ARGUMENTS, FILES, DATA, SETTINGS, COMPUTE, OTHER = (
    "Arguments",
    "Input and output",
    "Reading the data",
    "Settings",
    "Computation",
    "Other",
)
MAY_BE_EMPTY = "--prompt"
SECTIONS = {
    **dict.fromkeys(
        (
            "data",
            "plan",
            "variant",
            "ema",
            "conditions",
            "validation",
            "classifier_data",
            "clips",
            "cache",
            "resume_from",
        ),
        FILES,
    ),
    **dict.fromkeys(("lpips", "dreamsim", "fid", "fvd", "frechet"), FILES),
    **dict.fromkeys(DataSettings.model_fields, DATA),
    **dict.fromkeys(
        ("device", "dtype", "mixed_precision", "gradient_checkpointing", "memory", "budget", "seed"), COMPUTE
    ),
}

Base = Annotated[
    Path,
    typer.Argument(
        metavar="BASE",
        help="diffusers model or pipeline folder, file or folder as its makers publish it, or Hub id (OWNER/NAME)",
    ),
]
Converted = Annotated[
    Path, typer.Argument(metavar="CONVERTED", help="folder that `v2w convert` or `v2w finetune` wrote")
]
Data = Annotated[
    Path, typer.Option("--data", metavar="DATA", help="data set of episodes", rich_help_panel=FILES)
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="print the result as JSON, the last line of standard output", rich_help_panel=OTHER
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML or JSON file of settings, named as the flags; flags take precedence",
        rich_help_panel=FILES,
    ),
]


def output_option(metavar: str, help: str) -> Any:
    """The option `-o/--output`, with what it names."""
    return typer.Option("-o", "--output", metavar=metavar, help=help, rich_help_panel=FILES)


class SectionedCommand(TyperCommand):
    """A command whose help lists its parameters by section."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Name arguments in the usage line as the documentation does: BASE, not {BASE}."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty values: as a path, "" would be the present folder."""
        for before, value in zip(["", *args], args, strict=False):
            flag, empty, rest = value.partition("=")
            if (value == "" and before != MAY_BE_EMPTY) or (
                flag.startswith("--") and empty and not rest and flag != MAY_BE_EMPTY
            ):
                found = f"an empty value{f' for {name}' if (name := flag or before).startswith('-') else ''}"
                raise V2WError(f"run v2w {ctx.info_name}", found, f"v2w {ctx.info_name} --help")
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {
            name: [] for name in (ARGUMENTS, FILES, DATA, SETTINGS, COMPUTE, OTHER)
        }
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            if parameter.param_type_name == "argument":
                sections[ARGUMENTS].append((parameter.metavar or record[0], record[1]))
            else:
                sections[getattr(parameter, "rich_help_panel", None) or OTHER].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records, col_max=26)


def takes_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for each field of the model that its parameter `settings` is annotated with.

    The command is called with the settings that were given: flags take precedence over the file named by
    `--config`, which takes precedence over the defaults.
    """
    signature = inspect.signature(function, eval_str=True)
    model: type[BaseModel] = signature.parameters["settings"].annotation
    own = [p for name, p in signature.parameters.items() if name != "settings"]

    @wraps(function)
    def command(context: typer.Context, config: Path | None, **given: Any) -> Any:
        flags = {
            name: value
            for name, value in given.items()
            if name in model.model_fields and _is_given(context, name)
        }
        asked = f"run v2w {context.info_name}"
        settings = read_settings(model, config, flags, asked, f"v2w {context.info_name} --help")
        return function(**{p.name: given[p.name] for p in own}, settings=settings)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(p.replace(kind=keyword) for p in own),
        *settings_options(model),
        inspect.Parameter("config", keyword, annotation=Config, default=None),
        inspect.Parameter("context", keyword, annotation=typer.Context),
    ]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def settings_options(model: type[BaseModel]) -> Iterator[inspect.Parameter]:
    """One parameter of a command for each field of `model`, those without a default first."""
    fields = sorted(model.model_fields.items(), key=lambda item: not item[1].is_required())
    for name, field in fields:
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if field.is_required() else _default(field),
            annotation=Annotated[_type(field.annotation), _option(name, field)],
        )


def flag(name: str) -> str:
    """The flag of a field: `a_b` -> `--a-b`."""
    return f"--{name.replace('_', '-')}"


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _option(name: str, field: FieldInfo) -> Any:
    limits = {}
    if {int, float} & set(_plain_types(field.annotation)):
        for constraint in _constraints(field):
            if (least := getattr(constraint, "ge", None)) is not None and -least not in SLIPS:
                limits["min"] = least
            if (largest := getattr(constraint, "le", None)) is not None and largest not in SLIPS:
                limits["max"] = largest
    is_flag = bool in _plain_types(field.annotation)
    help = _help(field) + ("  [required]" if field.is_required() else "")
    return typer.Option(
        flag(name) + (f"/--no-{name.replace('_', '-')}" if is_flag else ""),
        help=help,
        show_default=not is_flag or bool(field.default),
        rich_help_panel=SECTIONS.get(name, SETTINGS),
        metavar=None if is_flag else _metavar(field.annotation),
        **limits,
    )


def _help(field: FieldInfo) -> str:
    """The description as a phrase: it begins in lower case and ends without a full stop."""
    text = (field.description or "").removesuffix(".")
    is_word = text[1:2].islower() or text[1:2] == " "
    return text[:1].lower() + text[1:] if is_word else text


def _metavar(annotation: Any) -> str | None:
    """How the value is named in help; None: as typer does, which lists choices."""
    kinds = _plain_types(annotation)
    if any(get_origin(kind) is Literal for kind in kinds):
        several = get_origin(annotation) in (list, tuple)  # typer lists choices of one value only
        return f"[{'|'.join(get_args(kinds[0]))}]" if several else None
    names = {int: "N", float: "X", str: "NAME", Path: "PATH"}
    return next((names[kind] for kind in kinds if kind in names), None)


def _plain_types(annotation: Any) -> list[Any]:
    """The types in a union, in a list or alone; None is left out."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _plain_types(part)]
    if origin is Annotated:
        return _plain_types(get_args(annotation)[0])
    if origin in (list, tuple):
        return _plain_types(get_args(annotation)[0])
    return [] if annotation is type(None) else [annotation]


def _constraints(field: FieldInfo) -> Iterator[Any]:
    """Bounds of a field: its own, or of the type in a union with None or in a tuple."""
    yield from field.metadata
    for part in get_args(field.annotation):
        if get_origin(part) is Annotated:
            yield from (bound for given in part.__metadata__ for bound in getattr(given, "metadata", ()))


def _type(annotation: Any) -> Any:
    """The field's type as typer takes it: a tuple of any length is a list, constraints are left out."""
    origin = get_origin(annotation)
    if origin in (list, tuple):
        [kind] = _plain_types(annotation)
        return list[str] if get_origin(kind) is Literal else list[kind]  # type: ignore[valid-type]
    [kind] = _plain_types(annotation)
    return kind if kind is annotation or origin is Annotated else kind | None


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return list(value) if isinstance(value, tuple) else value

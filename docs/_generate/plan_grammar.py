"""The reference of plans, from the pydantic models that read them."""

import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from docs._generate.markdown import code, docstring, table
from v2w_convert.noise import NoiseSpec
from v2w_convert.operations import OPERATIONS, Operation
from v2w_convert.operations.rotary import Rotary
from v2w_convert.plan.grammar import Call, Condition, LatentsArgument, NoiseLevel, Plan
from v2w_convert.plan.read import shipped_plans

HEAD = """# Plan grammar

A plan is a YAML file that says how a family of models is called and what to do at each kind of layer. It is data: nothing in it
is executed. `v2w plan BASE -o plan.yaml` writes the one that fits, to read or to edit, and `--plan FILE` uses it.

A field that is not listed here is refused, with the nearest name. All mistakes are reported at once, with their lines.

## An example

```yaml
{example}```

## Patterns and numbers

`at` is a pattern of module paths: `*` matches within one component, `**` crosses dots, `[12]` is one of the characters, and
a pattern that begins with `**.` matches at any depth. A rule that matches no module is an error, and so are two rules that match the
same one.

Where a number depends on the checkpoint, write an expression of entries of the base's config: names, integers,
`[i]` of a list, `+ - * / // **`, and `a or b` for the first that is not null; for example `in_channels - out_channels`.
"""
MODELS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Plan", Plan),
    ("noise", NoiseSpec),
    ("call", Call),
    ("call.latents", LatentsArgument),
    ("call.noise_level", NoiseLevel),
    ("call.conditions", Condition),
)


def plan_page() -> str:
    """The whole page."""
    sections = [HEAD.format(example=shipped_plans()["wan"].read_text("utf-8"))]
    sections += [_section(f"## {title}", model) for title, model in MODELS]
    sections.append(
        "## Operations\n\n`operations` is a list; each entry is the name of one operation with its fields. All have "
        "`at`, the [pattern](#patterns-and-numbers) of the modules.\n"
    )
    sections += [
        _section(f"### {kind.name}", kind, skip=frozenset(Operation.model_fields)) for kind in OPERATIONS
    ]
    sections.append(_section("### rotary", Rotary))
    return "\n".join(sections)


def _section(heading: str, model: type[BaseModel], skip: frozenset[str] = frozenset()) -> str:
    prose, described = docstring(model)
    rows = [
        (
            code(name),
            code(type_name(field.annotation)),
            _default(field.get_default(call_default_factory=False), field.is_required()),
            field.description or described.get(name, ""),
        )
        for name, field in model.model_fields.items()
        if name not in skip
    ]
    fields = table(["field", "type", "default", "meaning"], rows) if rows else "No fields besides `at`.\n"
    return f"{heading}\n\n{prose}\n\n{fields}"


def _default(value: Any, required: bool) -> str:
    if required or value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    return code(value if value not in ({}, []) else repr(value))


def type_name(annotation: Any) -> str:
    """A type as a reader of YAML thinks of it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return " or ".join(repr(value).replace("'", "") for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_name(a) for a in arguments if a is not type(None)))
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin in (list, tuple):
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"{type_name(arguments[0])}: {type_name(arguments[1])}"
    names = {int: "integer", str: "text", float: "number", bool: "true or false", Any: "any"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))

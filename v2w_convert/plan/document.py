"""A plan's file as plain data, with the line of each field. Needs neither the grammar nor torch."""

import re
from pathlib import Path
from typing import Any

import yaml

from v2w_convert.errors import V2WError

MAX_BYTES = 50_000  # the shipped plans have 2,000
FieldPath = tuple[str | int, ...]
Lines = dict[FieldPath, int]
PLAIN = {"bool": r"true|false", "int": r"[-+]?(0|[1-9][0-9]*)", "null": r"null|~|"}


class _Loader(yaml.SafeLoader):
    """Plain YAML without values that can be read in two ways, and without aliases, by which a small file is huge."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        reader: Any = self  # the stubs leave its methods untyped
        if reader.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name), write the values out",
                problem_mark=reader.peek_event().start_mark,
            )
        node: Any = super().compose_node(parent, index)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.ScalarNode) and not re.fullmatch(PLAIN.get(kind, r"(?s:.*)"), node.value):
            # YAML reads `no` as false, 010 as eight and 1:30 as ninety.
            problem = f"{node.value!r:.80} would be taken for a {kind}: write it in quotes, or as JSON has it"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node


def read_document(file: Path, asked: str | None = None, try_: str | None = None) -> tuple[Any, Lines]:
    """What a YAML file holds, and where each field is written.

    Args:
        file: The file.
        asked: What the user asked for, for the error; default: to read a plan.
        try_: What to try where the file is missing.

    Returns:
        Plain data, and the line of each field.

    Raises:
        V2WError: It is not a file, too large, not plain YAML, uses aliases, or has a field twice.
    """
    asked = asked or f"read the plan {file}"
    try:
        if not file.is_file():  # opening a FIFO would wait for ever
            raise V2WError(asked, "no such file", try_ or "v2w plan BASE -o plan.yaml, which writes one")
        if file.stat().st_size > MAX_BYTES:
            raise V2WError(asked, f"it is larger than {MAX_BYTES} bytes")
        loader = _Loader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        lines = _lines(node, asked)
        return (None if node is None else loader.construct_document(node)), lines
    except OSError as error:
        raise V2WError(asked, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise V2WError(asked, "it is not UTF-8 text") from None
    except RecursionError:
        raise V2WError(asked, "it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise V2WError(asked, f"it is not plain YAML: {' '.join(str(error).split())}") from None


def _lines(node: yaml.Node | None, asked: str, path: FieldPath = ()) -> Lines:
    """The line of each field. Raises V2WError for a key that is written twice, or is no name."""
    found: Lines = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise V2WError(asked, f"line {line}: {str(key.value)[:80]} is not the name of a field")
            here = (*path, key.value)
            if here in found:
                raise V2WError(asked, f"line {line}: {key.value:.80} is written twice")
            found[here] = line
            found |= _lines(value, asked, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found[(*path, index)] = value.start_mark.line + 1
            found |= _lines(value, asked, (*path, index))
    return found

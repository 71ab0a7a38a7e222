"""Columns of CSV and JSON Lines files, checked: sizes before they are read, numbers while they are."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.errors import V2WError
from v2w_convert.strict_json import parse_object

MAX_BYTES = 2**27
MAX_CELLS = 25_000_000
MAX_COLUMNS = 10_000
MAX_NAME = 200  # characters
MAX_TEXT = 10_000
SEPARATORS = ",;\t"


@dataclass
class TextTable:
    """A file's columns.

    Attributes:
        file: Where they are from.
        lines: The line of each row, from 1.
        numbers: Columns of numbers, in their order; float64 (rows).
        texts: Columns that hold anything else.
    """

    file: Path
    lines: list[int] = field(default_factory=list)
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def refuse_text(self, name: str) -> V2WError:
        """The error for a column that was to have numbers: its first cell that has none."""
        row = next(i for i, text in enumerate(self.texts[name]) if _number(text) is None)
        found = f"column {name!r}, line {self.lines[row]}: {self.texts[name][row]!r:.100}, not a number"
        return V2WError(
            f"read {self.file}", found, "numbers, or name the columns of actions with --action-key"
        )


def read_text_table(file: Path) -> TextTable:
    """A .csv file (separated by commas, semicolons or tabs; names in the first line, or no names), or .jsonl: an object a line.

    A list of numbers in JSON Lines becomes a column for each, NAME_0 and so on. Without names, columns are action_0 and so on.

    Args:
        file: A regular file, see `files.file_in`.

    Raises:
        V2WError: It is too large, not UTF-8, or rows have other columns than the first one; with the line.
    """
    asked = f"read {file}"
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size} bytes, over the limit of {MAX_BYTES}")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = _json_lines(stream) if file.suffix == ".jsonl" else _csv(stream)
            _, names = next(rows, (0, []))
            _check_names(names)
            columns = [_Column() for _ in names]
            lines: list[int] = []
            for line, cells in rows:
                if len(cells) != len(names):
                    raise ValueError(f"line {line}: {len(cells)} cells, not {len(names)}")
                if len(lines) * len(names) > MAX_CELLS:
                    raise ValueError(f"over {MAX_CELLS} cells")
                lines.append(line)
                for column, cell in zip(columns, cells, strict=True):
                    column.add(cell)
    except UnicodeDecodeError:
        raise V2WError(asked, "it is not UTF-8", "save it as UTF-8") from None
    except (OSError, ValueError, csv.Error) as error:
        raise V2WError(asked, getattr(error, "strerror", None) or str(error), "write it again") from None
    if not lines:
        raise V2WError(asked, "it has no rows", "a row for each frame")
    table = TextTable(file, lines)
    for name, column in zip(names, columns, strict=True):
        if column.texts is None:
            table.numbers[name] = np.frombuffer(column.numbers)
        else:
            table.texts[name] = column.texts
    return table


class _Column:
    """Numbers, until a cell is none."""

    def __init__(self) -> None:
        self.numbers = array("d")
        self.texts: list[str] | None = None

    def add(self, cell: str) -> None:
        if self.texts is None:
            if (number := _number(cell)) is not None:
                self.numbers.append(number)
                return
            self.texts = [repr(value) for value in self.numbers]
        if len(cell) > MAX_TEXT:
            raise ValueError(f"a text of {len(cell)} characters")
        self.texts.append(cell)


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _check_names(names: Sequence[str]) -> None:
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"{len(names)} columns")
    for name in names:
        if not name.isprintable() or not 1 <= len(name) <= MAX_NAME:
            raise ValueError(
                f"a column's name is {name!r:.100}: 1 to {MAX_NAME} characters that can be shown"
            )
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"column {twice[0]!r} is there twice")


def _csv(stream: Any) -> Iterator[tuple[int, list[str]]]:
    """The names, then the rows, each with its line."""
    first = stream.readline()
    stream.seek(0)
    reader = csv.reader(stream, strict=True, delimiter=max(SEPARATORS, key=first.count))
    empty = 0
    for number, row in enumerate(reader):
        cells = [cell.strip() for cell in row]
        if row and empty:  # left out, it would move all actions after it by a frame
            raise ValueError(f"line {empty} is empty")
        empty = empty or (0 if row else reader.line_num)
        if number == 0 and cells and all(_number(cell) is not None for cell in cells):
            yield 0, [f"action_{i}" for i in range(len(cells))]
            yield 1, cells
        elif number == 0:
            yield 1, cells
        elif row:
            yield reader.line_num, cells


def _json_lines(stream: Any) -> Iterator[tuple[int, list[str]]]:
    """The same of JSON Lines; a missing key is refused by its name."""
    names: list[str] | None = None
    empty = 0
    for line, text in enumerate(stream, 1):
        if not text.strip():
            empty = empty or line
            continue
        if empty:
            raise ValueError(f"line {empty} is empty")
        try:
            cells = dict(_flat(parse_object(text.encode())))
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from None
        if names is None:
            names = list(cells)
            yield line, names
        if set(cells) != set(names):
            other = sorted(set(cells) ^ set(names))[0]
            raise ValueError(f"line {line}: {other!r:.200} is in it or in the first line, not in both")
        yield line, [cells[name] for name in names]


def _flat(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in entry.items():
        if isinstance(value, list):
            for number, part in enumerate(value):
                yield f"{name}_{number}", _cell(name, part)
        else:
            yield name, _cell(name, value)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return value
    raise ValueError(f"{name!r:.200} is not a number, a text or a list of numbers")

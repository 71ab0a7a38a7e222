"""What a command shows: tables and progress on standard error, one JSON object on standard output."""

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from v2w_convert.errors import V2WError, printable

console = Console(stderr=True, highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 150  # a log is as wide as it needs to be


def print_line(text: str) -> None:
    console.print(Text(text))


def print_table(title: str, columns: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """Cells are shown as they are: no markup, no control characters."""
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(str(cell))) for cell in row))
    console.print(shown, soft_wrap=False)


def print_json(result: dict[str, Any]) -> None:
    """The last line of standard output."""
    sys.stdout.write(json.dumps(result, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def print_error(error: V2WError, as_json: bool) -> None:
    sys.stderr.write(f"v2w: {error}\n")
    if as_json:
        print_json(error.as_json())


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Any]:
    """A progress bar; yields `update(completed=…, description=…)`. Silent where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda **change: progress.update(task, **change)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Libraries' own warnings, which repeat raw what a file says, are not shown: a command says what matters itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def fold_paths(paths: Iterable[str]) -> dict[str, int]:
    """Module paths that differ in numbers only, as one line with how many there are: `blocks.{0…3}.attn1` -> 4."""
    groups: dict[str, list[list[int]]] = {}
    for path in paths:
        numbers = [int(n) for n in re.findall(r"(?<=\.)\d+(?=\.|$)", path)]
        groups.setdefault(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", path), []).append(numbers)
    folded = {}
    for shape, found in groups.items():
        spans = [sorted(set(column)) for column in zip(*found, strict=True)]
        texts = [_span(span) for span in spans]
        pieces = shape.split("{}")
        name = "".join(p + t for p, t in zip(pieces, [*texts, ""], strict=True))
        folded[name] = len(found)
    return folded


def _span(numbers: list[int]) -> str:
    """Numbers, ascending, as 3, {0…3}, or {0,3} where some between are not among them."""
    first, last = numbers[0], numbers[-1]
    if first == last:
        return str(first)
    whole = len(numbers) == last - first + 1 or len(numbers) > 6
    return "{" + (f"{first}…{last}" if whole else ",".join(map(str, numbers))) + "}"

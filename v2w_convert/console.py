"""What a command shows: tables and progress on standard error, one JSON object on standard output."""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from v2w_convert.errors import V2WError
from v2w_convert.escape import printable
from v2w_convert.progress import Progress, ProgressEvent
from v2w_convert.to_json import Result, result_data


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on: that nobody reads what is said on the way is no reason to stop."""
        self.quiet = True


LOG_EVERY = 60.0  # seconds between lines about how far a task has come, where there is no bar
SOON = 15.0  # the same about a task that is not counted: it says once what it does

console = _Console(stderr=True, highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 150  # a log has no width of its own


def begin() -> None:
    """Begin a command: the one before, in the same process, may have lost its reader.

    Of several processes (`torchrun`, `accelerate launch`) only the first says more than errors.
    """
    console.quiet = not is_first()


def is_first() -> bool:
    """Whether this is the only process, or the first of several."""
    return os.environ.get("RANK", "0") in ("", "0")


def print_line(text: str, *more: str) -> None:
    """Print a line on standard error, and more lines below it, indented."""
    for line in (text, *(f"  {line}" for line in more)):
        console.print(Text(printable(line)))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a table on standard error. All text is shown as it is: nothing in it is markup."""
    shown = Table(
        title=_plain(title), title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD
    )
    for column in columns:
        shown.add_column(_plain(column), overflow="fold")
    for row in rows:
        shown.add_row(*map(_plain, row))
    console.print(shown, soft_wrap=False)


def _plain(text: Any) -> Text:
    return Text(printable(str(text)))


def print_result(result: Result, settings: BaseModel | None = None) -> None:
    """Print a result as JSON: the last line of standard output.

    Args:
        result: The result.
        settings: Added as `settings`, where the result does not hold them.
    """
    data = result_data(result)
    if settings is not None:
        data["settings"] = settings.model_dump(mode="json")
    print_json(data)


def print_json(data: dict[str, Any]) -> None:
    """Print an object as JSON: the last line of standard output."""
    if not is_first():
        return
    sys.stdout.write(json.dumps(data, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_error(error: V2WError, as_json: bool) -> None:
    """Print an error as one line on standard error, and as JSON on standard output if `as_json`."""
    try:
        sys.stderr.write(
            f"v2w: {error}\n" if is_first() else f"v2w, process {os.environ['RANK'][:9]!r}: {error}\n"
        )
    except OSError:
        discard(sys.stderr)
    try:
        if as_json:
            print_json(error.as_json())
    except OSError:
        discard(sys.stdout)


def discard(stream: TextIO) -> None:
    """Have what is still in a stream, which nobody reads or whose disk is full, vanish without another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def show_progress(title: str) -> Iterator[Progress]:
    """Show a progress bar while the block runs; yields the callback that moves it.

    Where standard error is not a terminal, such as in a cluster's log, there is a line every minute in place of a bar. The
    details of "note" events are printed as lines in any case.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}
        told = time.monotonic()

        def progress(event: ProgressEvent) -> None:
            nonlocal told
            if event.task == "note":
                print_line(event.detail)
                return
            if not console.is_terminal:
                wait = SOON if event.done is None else LOG_EVERY
                if time.monotonic() - told >= wait:
                    told = time.monotonic()
                    print_line(f"{title}: {progress_words(event, title)}")
                return
            if event.task not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[event.task] = bar.add_task(event.task, total=event.total)
            words = [event.task, event.detail, time_left(event)]
            bar.update(
                tasks[event.task],
                visible=True,
                completed=event.done,
                total=event.total,
                description=printable(" ".join(filter(None, words))),
            )

        progress(ProgressEvent(title))
        yield progress


def progress_words(event: ProgressEvent, title: str) -> str:
    """How far a task has come, in words that follow the command's title."""
    words = [event.task] if event.task != title else []
    if event.done is not None:
        words.append(str(event.done) if event.total is None else f"{event.done} of {event.total}")
    return ", ".join(filter(None, [" ".join(words), event.detail, time_left(event)]))


def time_left(event: ProgressEvent) -> str:
    """The time to the end of a task, to the two digits that an estimate is good for; "" where it is not known."""
    seconds = event.seconds_left
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 7200 else f"{seconds / 3600:.1f} h left"


@contextmanager
def quiet_libraries(level: int = logging.WARNING) -> Iterator[None]:
    """Silence the warnings of libraries, which repeat raw what a file says: a command reports what matters itself.

    Args:
        level: What is logged up to this level is silenced, too.
    """
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

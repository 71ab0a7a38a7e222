"""The actions of one recording, as tables and arrays hold them: which columns they are, and what kind of numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.actions import MAX_CHOICES, ActionPart, ActionSpace
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.validation.arrays import has_array, read_array
from v2w_convert.data.validation.text_tables import TextTable
from v2w_convert.errors import V2WError

FRAME = ("frame", "frame_index")  # columns that count frames; checked
RECORDING = ("video", "file", "episode")  # columns that say which recording a row belongs to
TASK = "task"  # a column of words
NOT_ACTIONS = (*FRAME, *RECORDING, TASK, "index", "episode_index", "timestamp", "time", "seconds")
KEYS = ("actions", "action")


@dataclass(frozen=True)
class Recorded:
    """Actions as they are recorded.

    Attributes:
        source: The file.
        names: A name for each number of a row.
        values: Rows (t, r), finite.
        tasks: What is being done, in words.
    """

    source: Path
    names: tuple[str, ...]
    values: NDArray[Any]
    tasks: tuple[str, ...] = ()


def natural(name: str) -> list[tuple[str, int]]:
    """A key to sort names by, which sorts frame_2 before frame_10."""
    return [*((text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d{0,18})", name)), (name, 0)]


def from_table(table: TextTable, rows: NDArray[np.intp], key: str | None) -> Recorded:
    """The actions in some rows of a table: the columns that `key` names, separated by commas, or all that are not known
    to be something else.

    Raises:
        V2WError: A column is not there, has no numbers, or rows are not in the order of the frames.
    """
    asked = f"read {table.file}"
    known = [*table.numbers, *table.texts]
    names = key.split(",") if key else [name for name in known if name.lower() not in NOT_ACTIONS]
    names = [column for name in names for column in _columns(name, known)]
    if missing := [name for name in names if name not in known]:
        raise V2WError(asked, f"it has no column {missing[0]!r}", f"--action-key {','.join(known[:20])}")
    if not names:
        raise V2WError(asked, f"none of its columns is an action: {', '.join(known[:20])}", "--action-key")
    for name in names:
        if name in table.texts:
            raise table.refuse_text(name)
    values = np.stack([table.numbers[name][rows] for name in names], axis=1)
    for name in FRAME:
        if name in table.numbers and len(rows):
            counted = table.numbers[name][rows]
            good = (counted - counted[0] == np.arange(len(rows))) & (counted[0] in (0, 1))
            if not good.all():
                at = int(np.argmin(good))
                found = f"column {name!r}, line {table.lines[rows[at]]}: {counted[at]:.10g} in row {at} of a recording"
                raise V2WError(asked, found, "a row for each frame, in their order")
    require_finite(values, asked, lambda row: f"line {table.lines[rows[row]]}", names)
    tasks = dict.fromkeys(table.texts[TASK][row].strip() for row in rows) if TASK in table.texts else {}
    return Recorded(table.file, tuple(names), values, tuple(text for text in tasks if text))


def from_npz(file: Path, key: str | None) -> Recorded:
    """The array that `key` names, or `actions` or `action`.

    Raises:
        V2WError: There is no such array, or it is not (t, r) or (t) finite numbers.
    """
    asked = f"read {file}"
    name = key or next((name for name in KEYS if has_array(file, name)), KEYS[0])
    values = flat(read_array(file, name), asked, name)
    names = column_names(values.shape[1])
    require_finite(values, asked, lambda row: f"row {row}", names)
    return Recorded(file, names, values)


def flat(values: NDArray[Any], asked: str, name: str) -> NDArray[Any]:
    """Rows of numbers (t, r) of an array (t, …) or (t).

    Raises:
        V2WError: It has no rows, or no numbers in them.
    """
    if values.ndim == 0 or not values.size:
        raise V2WError(asked, f"{name!r} is of shape {values.shape}", "a row of numbers for each frame")
    return values.reshape(len(values), -1)


def column_names(count: int) -> tuple[str, ...]:
    """Names of numbers that have none."""
    return tuple(f"action_{i}" for i in range(count))


def space_of(recorded: Sequence[Recorded], settings: DataSettings, asked: str) -> ActionSpace:
    """What the numbers are: as --action-kind says, or amounts.

    Raises:
        V2WError: Recordings have other columns than the first; or a single column of whole numbers, which may be choices or
            amounts, and nobody says which.
    """
    first = recorded[0]
    if other := next((one for one in recorded if one.names != first.names), None):
        found = f"{other.source.name} has the actions {', '.join(other.names[:20])}, {first.source.name} has {', '.join(first.names[:20])}"
        raise V2WError(asked, found, "the same columns in all, or --action-key")
    kind = settings.action_kind
    if kind is None and len(first.names) == 1 and all(_may_be_choices(one.values) for one in recorded):
        found = f"actions are one whole number each ({first.names[0]}): choices, or amounts?"
        raise V2WError(asked, found, "--action-kind discrete, or continuous")
    if kind != "discrete":
        return ActionSpace((ActionPart("action", kind or "continuous", len(first.names), first.names),))
    parts, counts = [], iter(settings.choice_counts or [])
    for column, name in enumerate(first.names):
        counted = max(float(one.values[:, column].max()) for one in recorded)
        largest = counted if settings.choice_counts is None else next(counts, 1) - 1
        if not 0 <= largest < MAX_CHOICES:
            raise V2WError(asked, f"{name}: {largest:.10g}, not a choice from 0 to {MAX_CHOICES - 1}")
        choices = int(largest) + 1
        parts.append(ActionPart(name, "discrete", choices, tuple(map(str, range(choices)))))
    return ActionSpace(tuple(parts))


def _may_be_choices(values: NDArray[Any]) -> bool:
    return bool(((values >= 0) & (values < MAX_CHOICES) & (values == np.floor(values))).all())


def _columns(name: str, known: Sequence[str]) -> list[str]:
    """The columns that a name stands for: itself, or NAME_0, NAME_1, …, which a list in JSON Lines becomes."""
    if name in known:
        return [name]
    return [column for column in known if re.fullmatch(rf"{re.escape(name)}_\d+", column)] or [name]


def require_finite(values: NDArray[Any], asked: str, where: Any, names: Sequence[str]) -> None:
    with np.errstate(over="ignore"):
        good = np.isfinite(values.astype(np.float32))
    if not good.all():
        row, column = np.argwhere(~good)[0]
        found = f"{names[column]!r}, {where(row)}: {values[row, column]:.10g}, not finite in float32"
        raise V2WError(asked, found, "clean the actions before training on them")

"""The rows of a LeRobot data set: what was done in every frame, selected and checked episode by episode."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.formats.lerobot_episodes import TRY, EpisodeRow
from v2w_convert.data.validation.tables import Kind, Table
from v2w_convert.errors import V2WError

ROUNDING = 2.0**-22  # of a timestamp in float32


class DataFile:
    """A parquet file of rows, one for each frame. Columns are read at their first use, and kept.

    Attributes:
        table: The columns that say which row is which.
    """

    def __init__(self, file: Path, widths: Mapping[str, int], tasks: bool):
        """Check its footer.

        Args:
            file: The file.
            widths: Columns of numbers, and how many numbers each has in a row.
            tasks: Whether frames have tasks.

        Raises:
            V2WError: It does not have such columns.
        """
        whole = ["episode_index", "frame_index", "index", *(["task_index"] if tasks else [])]
        kinds: dict[str, Kind] = {**dict.fromkeys(whole, "whole"), "timestamp": "seconds"}
        self.table, self._numbers = Table(file, kinds), Table(file, widths)
        self._columns: dict[str, NDArray[Any]] | None = None
        self._found: dict[str, NDArray[np.float32]] | None = None

    def numbers(self, row: EpisodeRow) -> NDArray[np.float32]:
        """All the numbers (t, r) of an episode, column after column.

        Raises:
            V2WError: The file is damaged, or its rows are not those of the episode.
        """
        places, columns = self.places(row), self._read_numbers()
        return np.concatenate([column[places] for column in columns.values()], axis=1)

    def highest(self, name: str) -> NDArray[np.float32]:
        """The largest value of each number of a column. Raises as `numbers`."""
        found: NDArray[np.float32] = self._read_numbers()[name].max(axis=0)
        return found

    def tasks(self, row: EpisodeRow) -> list[int]:
        """The numbers of an episode's tasks, in the order in which its frames have them. Raises as `numbers`."""
        part, columns = self._part(row)
        numbers = columns["task_index"][part][: row.length]
        _, first = np.unique(numbers, return_index=True)
        return [int(numbers[place]) for place in sorted(first)]

    def places(self, row: EpisodeRow) -> NDArray[np.int64]:
        """Where the rows of an episode lie in the file (t). Raises as `numbers`."""
        part, columns = self._part(row)
        found: NDArray[np.int64] = columns["place"][part][: row.length]
        return found

    def on_time(self, row: EpisodeRow, fps: float) -> int:
        """How many of an episode's rows, from the first on, are at their times: the nearest tick. Raises as `numbers`."""
        part, columns = self._part(row)
        times = columns["timestamp"][part]
        good = np.abs(times - np.arange(row.rows) / fps) <= 0.5 / fps + ROUNDING * times
        return row.rows if good.all() else int(np.argmin(good))

    def forget(self) -> None:
        """Free the memory."""
        self._columns = self._found = None

    def _read_numbers(self) -> dict[str, NDArray[np.float32]]:
        """In the order of the file."""
        if self._found is None:
            self._found = self._numbers.read()
        return self._found

    def _read(self) -> dict[str, NDArray[Any]]:
        if self._columns is None:
            columns = self.table.read()
            order = np.lexsort((columns["frame_index"], columns["episode_index"]))
            if (order[1:] < order[:-1]).any():  # not in order already, which needs no copy
                columns = {key: column[order] for key, column in columns.items()}
            self._columns = {**columns, "place": order}
        return self._columns

    def _part(self, row: EpisodeRow) -> tuple[slice, dict[str, NDArray[Any]]]:
        """Where an episode's rows lie among the columns, and these. The rows are checked."""
        columns = self._read()
        ends = (np.searchsorted(columns["episode_index"], row.number, side) for side in ("left", "right"))
        part = slice(*ends)
        ticks = np.arange(row.rows)
        found = len(columns["index"][part])
        asked = f"read {self.table.file}"
        if found != row.rows:
            raise V2WError(asked, f"episode {row.number} has {found} rows, not {row.rows}", TRY)
        for key, expected in (("frame_index", ticks), ("index", row.start + ticks)):
            if not (good := columns[key][part] == expected).all():
                at = int(np.argmin(good))
                value = columns[key][part][at]
                raise V2WError(asked, f"column {key!r}: {value} in row {at} of episode {row.number}", TRY)
        return part, columns

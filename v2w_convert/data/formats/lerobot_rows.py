"""The rows of a LeRobot v3 data set: what was done in every frame, selected and checked episode by episode."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.formats.lerobot_episodes import TRY, EpisodeRow
from v2w_convert.data.formats.lerobot_info import ACTION
from v2w_convert.data.validation.tables import Kind, Table
from v2w_convert.errors import V2WError

ROUNDING = 2.0**-22  # of a timestamp in float32


class DataFile:
    """A parquet file of rows, one for each frame. It is read at the first use, and kept.

    Attributes:
        table: The file.
    """

    def __init__(self, file: Path, action_dim: int, tasks: bool):
        """Check its footer.

        Args:
            file: The file.
            action_dim: Numbers per action.
            tasks: Whether frames have tasks.

        Raises:
            V2WError: It does not have such columns.
        """
        whole = ["episode_index", "frame_index", "index", *(["task_index"] if tasks else [])]
        kinds: dict[str, Kind] = {**dict.fromkeys(whole, "whole"), "timestamp": "seconds", ACTION: action_dim}
        self.table = Table(file, kinds)
        self._columns: dict[str, NDArray[Any]] | None = None

    def actions(self, row: EpisodeRow, fps: float) -> NDArray[np.float32]:
        """Actions (t, a) of an episode.

        Raises:
            V2WError: The file is damaged, or its rows are not those of the episode.
        """
        return self._of(row, fps, ACTION)

    def tasks(self, row: EpisodeRow, fps: float) -> list[int]:
        """The numbers of an episode's tasks, in the order in which its frames have them. Raises as `actions`."""
        numbers = self._of(row, fps, "task_index")
        _, first = np.unique(numbers, return_index=True)
        return [int(numbers[place]) for place in sorted(first)]

    def forget(self) -> None:
        """Free the memory."""
        self._columns = None

    def _of(self, row: EpisodeRow, fps: float, name: str) -> NDArray[Any]:
        """A column of an episode's rows, which are checked."""
        if self._columns is None:
            columns = self.table.read()
            order = np.lexsort((columns["frame_index"], columns["episode_index"]))
            if (order[1:] < order[:-1]).any():  # not in order already, which needs no copy
                columns = {key: column[order] for key, column in columns.items()}
            self._columns = columns
        ends = (
            np.searchsorted(self._columns["episode_index"], row.number, side) for side in ("left", "right")
        )
        part = slice(*ends)
        ticks = np.arange(row.length)
        found = len(self._columns["index"][part])
        asked = f"read {self.table.file}"
        if found != row.length:
            raise V2WError(asked, f"episode {row.number} has {found} rows, not {row.length}", TRY)
        times = self._columns["timestamp"][part]
        checks = {
            "frame_index": self._columns["frame_index"][part] == ticks,
            "index": self._columns["index"][part] == row.start + ticks,
            "timestamp": np.abs(times - ticks / fps) <= 0.5 / fps + ROUNDING * times,
        }
        for key, good in checks.items():
            if not good.all():
                at = int(np.argmin(good))
                value = self._columns[key][part][at]
                raise V2WError(
                    asked,
                    f"column {key!r}: {value:.10g} in row {at} of episode {row.number}, at {fps:g} a second",
                    TRY,
                )
        return self._columns[name][part]

"""LeRobot data sets, v3 and v2: parquet for numbers, and for frames mp4 or pictures in parquet.

Layout as lerobot 0.1 (v2.0, v2.1) and 0.4 to 0.6 (v3.0) read and write it (github.com/huggingface/lerobot,
`datasets/`). Read with pyarrow and PyAV, because lerobot itself pins an older torch.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.dataset import Dataset, Format, choose_cameras
from v2w_convert.data.episode import Episode
from v2w_convert.data.formats.lerobot_actions import action_space, choose_numbers
from v2w_convert.data.formats.lerobot_cameras import Camera, frames_on_time, reader
from v2w_convert.data.formats.lerobot_episodes import EpisodeRow, read_episode_rows
from v2w_convert.data.formats.lerobot_info import INFO, read_info
from v2w_convert.data.formats.lerobot_lists import listed_tasks, read_listed_episodes
from v2w_convert.data.formats.lerobot_rows import DataFile
from v2w_convert.data.formats.lerobot_tasks import named_tasks, task_texts
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.tiles import Tiles
from v2w_convert.data.validation.files import files_below
from v2w_convert.data.validation.picture_columns import PictureColumn
from v2w_convert.errors import V2WError

MAX_LOST = (
    0.1  # share of all frames: where more would be cut off, the description is wrong and not an episode
)
MAX_NAMED = 5  # faults in an error message


class LeRobotFormat(Format):
    """Recognises LeRobot data sets by their meta/info.json."""

    name: ClassVar[str] = "LeRobot"
    contents: ClassVar[str] = "a folder with meta/info.json"
    takes: ClassVar[frozenset[str]] = frozenset({"camera", "action_key", "action_kind", "state"})

    def matches(self, path: Path) -> bool:
        return os.path.lexists(path / INFO)

    def open(self, path: Path, settings: DataSettings) -> Dataset:
        return LeRobotDataset(path, settings)


class LeRobotDataset(Dataset):
    """A LeRobot data set with cameras and flat vectors of numbers in each frame.

    All of meta/ and the heads of data/ are read and checked when it is opened; the rest where it is used. An episode
    is used up to its first frame or row that is missing or not at its time; `faults` says which.
    """

    def __init__(self, path: Path, settings: DataSettings):
        """Read and check the description. `open_dataset` says what is raised."""
        self.path = path
        self.info = read_info(path)
        names = choose_cameras(path, self.cameras, settings.camera)
        self.camera = ",".join(names)
        self._views = [
            Camera(name, self.info.features[name].dtype == "video", self.info.frame_size(name), self.info.fps)
            for name in names
        ]
        self._numbers = choose_numbers(self.info, settings, path)
        self._counts = settings.choice_counts
        videos = [view.name for view in self._views if view.video]
        if self.info.version == 3:
            self._rows, self._texts = read_episode_rows(path, self.info, videos), task_texts(path)
        else:
            self._rows, self._texts = read_listed_episodes(path, self.info, videos), listed_tasks(path)
        widths = {one.key: one.width for one in self._numbers}
        files = dict.fromkeys(row.data_file for row in self._rows)
        self._data = {file: DataFile(file, widths, bool(self._texts)) for file in files}
        for view in self._views:
            if not view.video:
                for file in files:
                    PictureColumn(file, view.name)
        if (count := sum(file.table.rows for file in self._data.values())) != self.info.total_frames:
            found = f"its data files have {count} rows, {INFO} says {self.info.total_frames} frames"
            raise V2WError(f"read the data set {path}", found, "download or record it again")

    @property
    def fps(self) -> float:
        return self.info.fps

    @property
    def cameras(self) -> list[str]:
        return self.info.cameras

    @property
    def action_names(self) -> list[str]:
        return self.action_space.names

    @cached_property
    def action_space(self) -> ActionSpace:
        """As info.json declares it. Where it names no choices, all rows are read for the largest index."""
        return action_space(self._numbers, self._highest, self.path, self._counts)

    @property
    def lengths(self) -> list[int]:
        return [row.length for row in self._used]

    @property
    def faults(self) -> list[str]:
        return self._cut[1]

    @property
    def tasks(self) -> list[tuple[str, ...]]:
        if not self._texts:
            return [()] * len(self._used)
        return [self._tasks(row) for row in self._used]

    def actions(self) -> Iterator[NDArray[np.float32]]:
        for row, rows in self._files(self._used):
            yield self._encoded(row, rows)

    def episodes(self) -> Iterator[Episode]:
        return self.episodes_from(0)

    def episodes_from(self, number: int) -> Iterator[Episode]:
        tiles, readers = Tiles([view.size for view in self._views]), [reader(view) for view in self._views]
        for row, rows in self._files(self._used[number:]):
            actions = self._encoded(row, rows)
            frames, parts = tiles.new(
                row.length, f"read the data set {self.path}", f"the frames of episode {row.number}"
            )
            for source, part in zip(readers, parts, strict=True):
                source.fill(part, row, rows.places(row))
            yield Episode(frames, actions, self._tasks(row))

    def fingerprint(self) -> str:
        """The SHA-256 of all of meta/, of the files of rows and the videos that are read, and of what is read of them."""
        digest = hashlib.sha256(f"{self.camera}\n{self._numbers}\n".encode())
        videos = {part.file for row in self._rows for part in row.videos.values()}
        for file in [*files_below(self.path, ("meta",)), *sorted(self._data), *sorted(videos)]:
            with file.open("rb") as stream:
                said = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(os.fsencode(file.relative_to(self.path)) + f" {said}\n".encode())
        return digest.hexdigest()

    @property
    def _used(self) -> list[EpisodeRow]:
        return self._cut[0]

    def _files(self, episodes: Iterable[EpisodeRow]) -> Iterator[tuple[EpisodeRow, DataFile]]:
        """Each episode and the file of its rows."""
        previous: DataFile | None = None
        for row in episodes:
            rows = self._data[row.data_file]
            # Episodes lie in the files one after the other: one open file is enough.
            if previous is not None and previous is not rows:
                previous.forget()
            previous = rows
            yield row, rows

    def _encoded(self, row: EpisodeRow, rows: DataFile) -> NDArray[np.float32]:
        asked = f"read episode {row.number} of the data set {self.path}"
        return self.action_space.encode(rows.numbers(row), asked)

    @cached_property
    def _cut(self) -> tuple[list[EpisodeRow], list[str]]:
        """Episodes up to what can be used of them, and what is wrong with the others. Rows and times are read for it."""
        videos = [view for view in self._views if view.video]
        seen = [list(frames_on_time(view, self._rows)) for view in videos]
        used, faults, lost = [], [], 0
        for i, (row, rows) in enumerate(self._files(self._rows)):
            counts = {}
            for view, found in zip(videos, seen, strict=True):
                counts[f"camera {view.name!r}"], there = found[i]
                if there > row.rows:
                    faults.append(
                        f"episode {row.number}: {there - row.rows} frames of camera {view.name!r} without a row left out"
                    )
            counts["column 'timestamp'"] = rows.on_time(row, self.fps)
            reason, length = min(counts.items(), key=lambda item: item[1])
            if length:
                used.append(replace(row, length=length))
            if length < row.rows:
                lost += row.rows - length
                faults.append(
                    f"episode {row.number}: {length} of {row.rows} frames used, {reason} has no more at their times"
                )
        if lost > MAX_LOST * self.info.total_frames:
            more = [f"… and {len(faults) - MAX_NAMED} more episodes"] if len(faults) > MAX_NAMED else []
            share = f"{lost} of {self.info.total_frames} frames are missing or not at their times ({self.fps:g} a second)"
            raise V2WError(
                f"read the data set {self.path}", [share, *faults[:MAX_NAMED], *more], "record it again"
            )
        return used, faults

    def _tasks(self, row: EpisodeRow) -> tuple[str, ...]:
        if not self._texts:
            return ()
        return named_tasks(self._data[row.data_file].tasks(row), self._texts, self.path)

    def _highest(self, key: str) -> NDArray[Any]:
        found = []
        for file in self._data.values():
            found.append(file.highest(key))
            file.forget()
        highest: NDArray[Any] = np.max(found, axis=0)
        return highest

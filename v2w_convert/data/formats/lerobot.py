"""LeRobot v3 data sets: parquet for numbers, mp4 for frames, many episodes per file.

Layout as lerobot 0.4 reads and writes it (github.com/huggingface/lerobot, `datasets/`). Read with pyarrow and PyAV,
because lerobot itself pins an older torch.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.dataset import Dataset, Format, choose_camera
from v2w_convert.data.episode import Episode
from v2w_convert.data.formats.lerobot_episodes import EpisodeRow, read_episode_rows
from v2w_convert.data.formats.lerobot_info import ACTION, INFO, read_info
from v2w_convert.data.formats.lerobot_rows import DataFile
from v2w_convert.data.formats.lerobot_tasks import named_tasks, task_texts
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.validation.files import files_below
from v2w_convert.data.validation.memory import new_frames
from v2w_convert.data.validation.videos import decode
from v2w_convert.errors import V2WError

Video = Iterator[tuple[float, NDArray[np.uint8]]]


class LeRobotFormat(Format):
    """Recognises LeRobot data sets by their meta/info.json."""

    name: ClassVar[str] = "LeRobot v3"
    contents: ClassVar[str] = "a folder with meta/info.json"

    def matches(self, path: Path) -> bool:
        return os.path.lexists(path / INFO)

    def open(self, path: Path, settings: DataSettings) -> Dataset:
        return LeRobotDataset(path, settings)


class LeRobotDataset(Dataset):
    """A LeRobot v3 data set with videos and one flat action vector per frame.

    All of meta/ and the heads of data/ are read and checked when it is opened; the rest where it is used.
    """

    def __init__(self, path: Path, settings: DataSettings):
        """Read and check the description. `open_dataset` says what is raised."""
        self.path = path
        self.info = read_info(path)
        self.camera = choose_camera(path, self.cameras, settings.camera)
        self._rows = read_episode_rows(path, self.info, self.camera)
        self._texts = task_texts(path)
        width = self.info.action_dim
        files = dict.fromkeys(row.data_file for row in self._rows)
        self._data = {file: DataFile(file, width, bool(self._texts)) for file in files}
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
        """As written in info.json, if there is a flat list of as many names as an action has numbers."""
        names, count = self.info.features[ACTION].names, self.info.action_dim
        if isinstance(names, list) and len(names) == count:
            return [str(name) for name in names]
        return [f"action_{i}" for i in range(count)]

    @property
    def lengths(self) -> list[int]:
        return [row.length for row in self._rows]

    @property
    def tasks(self) -> list[tuple[str, ...]]:
        if not self._texts:
            return [()] * len(self._rows)
        return [
            named_tasks(self._data[row.data_file].tasks(row, self.fps), self._texts, self.path)
            for row in self._rows
        ]

    def actions(self) -> Iterator[NDArray[np.float32]]:
        for row, numbers in self._numbers():
            yield numbers.actions(row, self.fps)

    def episodes(self) -> Iterator[Episode]:
        videos: dict[Path, Video] = {}
        for row, numbers in self._numbers():
            if row.video_file not in videos:
                videos = {row.video_file: self._decode(row.video_file)}
            actions = numbers.actions(row, self.fps)
            tasks = named_tasks(numbers.tasks(row, self.fps), self._texts, self.path) if self._texts else ()
            yield Episode(self._frames(videos[row.video_file], row), actions, tasks)

    def fingerprint(self) -> str:
        """The SHA-256 of all of meta/ and data/, and of names and sizes of the videos, and of the camera's name."""
        digest = hashlib.sha256(f"{self.camera}\n".encode())
        for file in files_below(self.path, ("data", "meta", "videos")):
            name = file.relative_to(self.path)
            if name.parts[0] == "videos":
                said = str(file.stat().st_size)
            else:
                with file.open("rb") as stream:
                    said = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(os.fsencode(name) + f" {said}\n".encode())
        return digest.hexdigest()

    def _numbers(self) -> Iterator[tuple[EpisodeRow, DataFile]]:
        """Each episode and the file of its rows."""
        previous: DataFile | None = None
        for row in self._rows:
            numbers = self._data[row.data_file]
            # Episodes lie in the files one after the other: one open file is enough.
            if previous is not None and previous is not numbers:
                previous.forget()
            previous = numbers
            yield row, numbers

    def _decode(self, file: Path) -> Video:
        height, width = self.info.frame_size(self.camera)
        last = max((row for row in self._rows if row.video_file == file), key=lambda row: row.video_start)
        frames = round(last.video_start * self.fps) + last.length
        return decode(file, fps=self.fps, height=height, width=width, frames=frames)

    def _frames(self, video: Video, row: EpisodeRow) -> NDArray[np.uint8]:
        """The frames of one episode from a `video` that is decoded up to its beginning."""
        asked = f"read the data set {self.path}"
        shape = (row.length, *self.info.frame_size(self.camera), 3)
        frames = new_frames(shape, asked, f"the frames of episode {row.number}")
        half = 0.5 / self.fps  # timestamps are rounded; a frame belongs to the nearest tick
        found = 0
        for time, frame in video:
            if time < row.video_start - half:
                continue
            if abs(time - row.video_start - found / self.fps) > half:
                said = (
                    f"episode {row.number} has frame {found} at {time:.3f} s of {row.video_file.name}, not at"
                )
                raise V2WError(asked, f"{said} {row.video_start + found / self.fps:.3f} s", "record it again")
            frames[found] = frame
            found += 1
            if found == row.length:
                return frames
        raise V2WError(
            asked,
            f"episode {row.number} has {found} frames in its video {row.video_file.name}, {row.length} rows",
        )

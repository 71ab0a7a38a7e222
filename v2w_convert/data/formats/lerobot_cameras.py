"""The frames of one camera of a LeRobot data set: in videos, or as pictures in the files of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.formats.lerobot_episodes import TRY, EpisodeRow
from v2w_convert.data.validation.picture_columns import PictureColumn
from v2w_convert.data.validation.picture_files import read_picture
from v2w_convert.data.validation.videos import decode, frame_times
from v2w_convert.errors import V2WError


@dataclass(frozen=True)
class Camera:
    """A camera.

    Attributes:
        name: Its name.
        video: Whether its frames are in videos.
        size: Height and width of its frames.
        fps: Frames a second.
    """

    name: str
    video: bool
    size: tuple[int, int]
    fps: float

    @property
    def half(self) -> float:
        """Half a tick, in seconds. Times are rounded; a frame belongs to the nearest tick."""
        return 0.5 / self.fps


class Reader(Protocol):
    """Reads the frames of a camera, episode after episode, in their order."""

    def fill(self, frames: NDArray[np.uint8], row: EpisodeRow, places: NDArray[np.int64]) -> None:
        """Write an episode's frames into `frames`, (row.length, height, width, 3).

        Args:
            frames: To be filled.
            row: The episode.
            places: Where its rows lie in its file of rows (t).

        Raises:
            V2WError: A file is damaged.
        """


def reader(camera: Camera) -> Reader:
    """A new reader, before the first episode."""
    return _Videos(camera) if camera.video else _Pictures(camera)


def frames_on_time(camera: Camera, rows: Sequence[EpisodeRow]) -> Iterator[tuple[int, int]]:
    """Of each episode, how many frames, from the first on, are in its video at their times, and how many in all.

    None is decoded.

    Raises:
        V2WError: A video is damaged, or has many more frames a second.
    """
    ends: dict[Path, float] = {}
    for row in rows:
        part = row.videos[camera.name]
        ends[part.file] = max(ends.get(part.file, 0.0), part.start + row.rows / camera.fps)
    (height, width), file, times = camera.size, None, np.zeros(0)
    for row in rows:
        part = row.videos[camera.name]
        if part.file != file:  # episodes lie in the videos one after the other
            file = part.file
            times = frame_times(file, fps=camera.fps, height=height, width=width, seconds=ends[file])
        begin = int(np.searchsorted(times, part.start - camera.half))
        found = times[begin:] if part.frames is None else times[begin : begin + part.frames]
        used = found[: row.rows]
        good = np.abs(used - part.start - np.arange(len(used)) / camera.fps) <= camera.half
        yield len(used) if good.all() else int(np.argmin(good)), len(found)


class _Videos:
    def __init__(self, camera: Camera):
        self._camera = camera
        self._file: Path | None = None
        self._video: Iterator[tuple[float, NDArray[np.uint8]]] = iter(())

    def fill(self, frames: NDArray[np.uint8], row: EpisodeRow, places: NDArray[np.int64]) -> None:
        camera, part = self._camera, row.videos[self._camera.name]
        if part.file != self._file:
            height, width = camera.size
            self._file = part.file
            self._video = decode(
                part.file, fps=camera.fps, height=height, width=width, begin=part.start - camera.half
            )
        found = 0
        for time, frame in self._video:
            if time < part.start - camera.half:
                continue
            expected = part.start + found / camera.fps
            if abs(time - expected) > camera.half:  # a frame before it could not be decoded
                said = f"frame {found} of episode {row.number} is at {time:.3f} s, not at {expected:.3f} s"
                raise V2WError(f"decode {part.file}", said, TRY)
            frames[found] = frame
            found += 1
            if found == row.length:
                return
        raise V2WError(
            f"decode {part.file}",
            f"{found} frames of episode {row.number} can be decoded, not {row.length}",
            TRY,
        )


class _Pictures:
    def __init__(self, camera: Camera):
        self._camera = camera
        self._column: PictureColumn | None = None

    def fill(self, frames: NDArray[np.uint8], row: EpisodeRow, places: NDArray[np.int64]) -> None:
        if self._column is None or self._column.file != row.data_file:
            self._column = PictureColumn(row.data_file, self._camera.name)
        asked = f"read column {self._camera.name!r} of episode {row.number} in {row.data_file}"
        for number, data in enumerate(self._column.read(places)):
            picture, (height, width) = read_picture(data, asked), self._camera.size
            if picture.shape[:2] != (height, width):
                found = f"frame {number} is {picture.shape[0]} x {picture.shape[1]}, the data set's {height} x {width}"
                raise V2WError(asked, found, TRY)
            frames[number] = picture

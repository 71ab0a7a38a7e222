"""Folders of recordings: videos, or folders of pictures, and tables of what was done at each frame.

DATA/walk.mp4    DATA/walk.csv          a table for each recording: .csv, .jsonl or .npz
DATA/run.mp4     DATA/run.csv
DATA/0001/*.png  DATA/0001/actions.csv  pictures, in the order of the numbers in their names
DATA/actions.csv                        or one table for all, whose column `video` names the recording
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.dataset import Dataset, Format, choose_camera
from v2w_convert.data.episode import Episode, with_last_row
from v2w_convert.data.formats.frames_sources import PICTURES, VIDEOS, Source, open_source
from v2w_convert.data.formats.recorded_actions import (
    RECORDING,
    Recorded,
    from_npz,
    from_table,
    natural,
    space_of,
)
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.text_tables import TextTable, read_text_table
from v2w_convert.errors import V2WError
from v2w_convert.escape import printable

TABLES = (".csv", ".jsonl", ".npz")
SHARED = "actions"
CAMERA = "frames"
MAX_RECORDINGS = 100_000
MAX_FAULTS = 5
T = TypeVar("T")


class FramesFolderFormat(Format):
    """Recognises folders with a video, or with a folder that has a picture."""

    name: ClassVar[str] = "folder of recordings"
    contents: ClassVar[str] = "a folder of videos, or of folders of pictures, with tables of actions"
    takes: ClassVar[frozenset[str]] = frozenset({"camera", "action_key", "action_kind", "fps"})

    def matches(self, path: Path) -> bool:
        try:
            return path.is_dir() and any(True for _ in _recordings(path))
        except OSError:
            return False

    def open(self, path: Path, settings: DataSettings) -> Dataset:
        return FramesFolder(path, settings)


class FramesFolder(Dataset):
    """Recordings in the order of their names. All actions are read and checked when it is opened, and the videos' heads."""

    def __init__(self, path: Path, settings: DataSettings):
        """Read all tables. `open_dataset` says what is raised."""
        self.path, self.settings = path, settings
        self.camera = choose_camera(path, self.cameras, settings.camera)
        asked = f"read the data set {path}"
        try:
            names = sorted(_recordings(path), key=natural)
        except OSError as error:
            raise V2WError(asked, str(error)) from None
        if len(names) > MAX_RECORDINGS:
            raise V2WError(asked, f"{len(names)} recordings, over the limit of {MAX_RECORDINGS}")
        self._sources: list[Source] = []
        self._recorded: list[Recorded] = []
        faults: list[str] = []
        advice = ""
        for name in names:
            try:
                source = open_source(path, name)
                recorded = self._actions(source)
                if not source.length - 1 <= len(recorded.values) <= source.length or not len(recorded.values):
                    found = f"{name} has {source.length} frames, {recorded.source.name} {len(recorded.values)} rows for it"
                    raise V2WError(asked, found, "a row for each frame; the last frame may have none")
            except V2WError as error:
                advice = advice or error.try_
                faults.append(error.found if error.asked == asked else f"{error.asked}: {error.found}")
                if len(faults) == MAX_FAULTS:
                    break
                continue
            self._sources.append(source)
            self._recorded.append(recorded)
        if faults:
            raise V2WError(asked, faults, advice)
        self._fps = self._rate(asked)
        self._sizes(asked)
        self._space = space_of(self._recorded, settings, asked)
        self._unread = self._files_unread(asked)
        self._encoded = [self._space.encode(one.values, f"read {one.source}") for one in self._recorded]

    @property
    def fps(self) -> float:
        return self._fps

    @property
    def cameras(self) -> list[str]:
        return [CAMERA]

    @property
    def action_names(self) -> list[str]:
        return self._space.names

    @property
    def action_space(self) -> ActionSpace:
        return self._space

    @property
    def lengths(self) -> list[int]:
        return [source.length for source in self._sources]

    @property
    def faults(self) -> list[str]:
        return self._unread

    @property
    def tasks(self) -> list[tuple[str, ...]]:
        return [recorded.tasks for recorded in self._recorded]

    def actions(self) -> Iterator[NDArray[np.float32]]:
        for source, actions in zip(self._sources, self._encoded, strict=True):
            yield actions if len(actions) == source.length else with_last_row(actions)

    def episodes(self) -> Iterator[Episode]:
        return self.episodes_from(0)

    def episodes_from(self, number: int) -> Iterator[Episode]:
        every = zip(self._sources, self.actions(), self._recorded, strict=True)
        for source, actions, recorded in islice(every, number, None):
            yield Episode(source.frames(), actions, recorded.tasks)

    def fingerprint(self) -> str:
        """The SHA-256 of all files that are read, and of what says which columns are actions."""
        digest = hashlib.sha256(f"{self.settings.action_key}\n{self.action_names}\n".encode())
        files = [file for source in self._sources for file in source.files]
        for file in [*files, *dict.fromkeys(recorded.source for recorded in self._recorded)]:
            with file.open("rb") as stream:
                said = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(os.fsencode(file.relative_to(self.path)) + f" {said}\n".encode())
        return digest.hexdigest()

    def _actions(self, source: Source) -> Recorded:
        """Of the table beside a recording, inside it, or for all."""
        stem, key = Path(source.name).stem if source.is_video else source.name, self.settings.action_key
        places = [stem] if source.is_video else [stem, f"{stem}/{SHARED}"]
        beside = [
            name
            for place in places
            for suffix in TABLES
            if os.path.lexists(self.path / (name := place + suffix))
        ]
        asked = f"read the data set {self.path}"
        if len(beside) > 1:
            raise V2WError(asked, f"{source.name} has several tables: {', '.join(beside)}")
        if not beside:
            if self._shared is None:
                found = f"{source.name} has no table: no {' or '.join(stem + suffix for suffix in TABLES)}"
                raise V2WError(asked, found, "a table beside each, or one actions.csv with a column video")
            table, column = self._shared
            wanted = (source.name, stem)
            rows = np.flatnonzero([cell in wanted for cell in column])
            return from_table(table, rows, key)
        file = file_in(self.path, beside[0])
        if file.suffix == ".npz":
            return from_npz(file, key)
        table = read_text_table(file)
        return from_table(table, np.arange(len(table.lines)), key)

    @cached_property
    def _shared(self) -> tuple[TextTable, list[str]] | None:
        """The table for all, and the name of the recording in each row."""
        found = [name for suffix in TABLES[:2] if os.path.lexists(self.path / (name := SHARED + suffix))]
        if not found:
            return None
        table = read_text_table(file_in(self.path, found[0]))
        for name in RECORDING:
            if name in table.texts:
                return table, table.texts[name]
            if name in table.numbers:
                return table, [f"{value:.17g}" for value in table.numbers[name]]
        raise V2WError(
            f"read {table.file}",
            f"it has no column {', '.join(map(repr, RECORDING))}",
            "the recording of each row",
        )

    def _files_unread(self, asked: str) -> list[str]:
        """A line about what lies in the folder and belongs to no recording, such as a table whose video is not there."""
        files = [file for source in self._sources for file in source.files]
        files += [one.source for one in self._recorded]
        used = {file.relative_to(self.path).parts[0] for file in files}
        try:
            names = [name for name in os.listdir(self.path) if name not in used and not name.startswith(".")]
        except OSError as error:
            raise V2WError(asked, str(error)) from None
        if not names:
            return []
        shown = [printable(name) for name in sorted(names, key=natural)[:MAX_FAULTS]]
        shown += ["…"] if len(names) > MAX_FAULTS else []
        verb = "is not read: it belongs" if len(names) == 1 else "are not read: they belong"
        return [f"{', '.join(shown)} {verb} to no recording"]

    def _rate(self, asked: str) -> float:
        """Frames a second: of the videos, or as --fps says of pictures, which have none."""
        rates = _first_of_each((source.fps, source.name) for source in self._sources)
        if len(rates) > 1:
            found = ", ".join(f"{name} {rate or 'none'}" for rate, name in list(rates.items())[:MAX_FAULTS])
            raise V2WError(asked, f"recordings have other frames a second: {found}", "one rate")
        if (rate := next(iter(rates)) or self.settings.fps) is None:
            raise V2WError(asked, "pictures do not say how many there are a second", "--fps")
        return rate

    def _sizes(self, asked: str) -> None:
        sizes = _first_of_each((source.size, source.name) for source in self._sources)
        if len(sizes) > 1 and self.settings.height is None:
            found = ", ".join(
                f"{name} {height} x {width}" for (height, width), name in list(sizes.items())[:MAX_FAULTS]
            )
            raise V2WError(asked, f"frames are of several sizes: {found}", "--height and --width")


def _first_of_each(pairs: Iterable[tuple[T, str]]) -> dict[T, str]:
    """The first name that has each value."""
    found: dict[T, str] = {}
    for value, name in pairs:
        found.setdefault(value, name)
    return found


def _recordings(path: Path) -> Iterator[str]:
    """Names of videos, and of folders with a picture, in a folder; hidden ones are none."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if Path(entry.name).suffix.lower() in VIDEOS:
                yield entry.name
            elif os.path.isdir(entry.path):
                with os.scandir(entry) as inner:
                    if any(Path(file.name).suffix.lower() in PICTURES for file in inner):
                        yield entry.name

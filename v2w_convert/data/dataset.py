"""What a data set and a format of data sets are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.episode import Episode
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError


class Dataset(ABC):
    """A data set of recorded episodes, opened for reading. Made by `open_dataset`.

    Opening reads the data set's description only; frames are decoded by `episodes`, one episode at a time.
    A format implements the abstract members; all others follow from them.

    Attributes:
        path: Where the data set lies.
        camera: The camera whose frames `episodes` yields; several, separated by commas, are tiled.
        format: What its format is called; `open_dataset` sets it.
    """

    path: Path
    camera: str
    format: str = ""

    @property
    def name(self) -> str:
        """A short name for reports: the last part of the path, or that of the data set in the Hub library's cache."""
        path = self.path.resolve()
        return path.parent.parent.name.rpartition("--")[2] if path.parent.name == "snapshots" else path.name

    @property
    @abstractmethod
    def fps(self) -> float:
        """Frames (and actions) per second."""

    @property
    @abstractmethod
    def cameras(self) -> list[str]:
        """Names of all cameras."""

    @property
    @abstractmethod
    def action_names(self) -> list[str]:
        """A name for each number of an action, such as "turn_left" or "action_0"."""

    @property
    def action_space(self) -> ActionSpace:
        """What these numbers are. Where a format does not say: amounts."""
        return ActionSpace.continuous(self.action_names)

    @property
    def action_dim(self) -> int:
        """Numbers per action, a."""
        return len(self.action_names)

    @property
    @abstractmethod
    def lengths(self) -> list[int]:
        """Frames of each episode that can be used, in order, without decoding them.

        Raises:
            V2WError: The list of episodes cannot be read.
        """

    @property
    def faults(self) -> list[str]:
        """What is not used and why, a line for each episode that is cut. Raises as `lengths`."""
        return []

    @property
    def tasks(self) -> list[tuple[str, ...]]:
        """`Episode.tasks` of each episode, in order, without decoding frames. None where a format has no words.

        Raises:
            V2WError: They cannot be read.
        """
        return [()] * len(self)

    def __len__(self) -> int:
        """How many episodes there are."""
        return len(self.lengths)

    def actions(self) -> Iterator[NDArray[np.float32]]:
        """`Episode.actions` of each episode, in order; NaN and infinities are left for the caller to find.

        Frames are decoded, and such numbers refused, unless the format reads actions by themselves.

        Raises:
            V2WError: They cannot be read.
        """
        for episode in self.episodes():
            yield episode.actions

    @abstractmethod
    def episodes(self) -> Iterator[Episode]:
        """Decode the episodes in order, one at a time.

        Yields:
            Frames of `camera` and the actions taken.

        Raises:
            V2WError: A file is missing or damaged, or frames and actions do not fit together.
        """

    def episodes_from(self, number: int) -> Iterator[Episode]:
        """As `episodes`, without the first ones. A format that can overrides this so as not to decode those."""
        return islice(self.episodes(), number, None)

    def first(self) -> Episode:
        """Decode the first episode only. Raises as `episodes` does."""
        return next(iter(self.episodes()))

    @abstractmethod
    def fingerprint(self) -> str:
        """A SHA-256 that is the same for the same frames and actions, wherever they lie.

        Runs and caches of encoded frames recognise their data by it.
        """


class Format(ABC):
    """A way in which data sets lie on disk. One instance of each subclass stands in `data.formats.FORMATS`.

    Attributes:
        name: What users call the format.
        contents: What tells it from others, in words, for error messages: "a folder with meta/info.json".
        takes: The fields of `DataSettings` that `open` goes by. Others, when they are given, are refused.
    """

    name: ClassVar[str]
    contents: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset({"camera"})

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Whether the existing `path` looks like this format. Quick, and raises nothing."""

    @abstractmethod
    def open(self, path: Path, settings: DataSettings) -> Dataset:
        """Open a `path` that `matches`. `open_dataset` says what is raised."""


def choose_camera(path: Path, cameras: Sequence[str], camera: str | None) -> str:
    """Return `camera`, or the only one there is: what a format does in `open` that has no use for several.

    Raises:
        V2WError: There is no camera, several and none is named, or none of this name.
    """
    found = choose_cameras(path, cameras, camera)
    if len(found) > 1:
        raise V2WError(f"read the data set {path}", f"several cameras: {camera}", "--camera with one of them")
    return found[0]


def choose_cameras(path: Path, cameras: Sequence[str], camera: str | None) -> list[str]:
    """Return the cameras that `camera` names, separated by commas, or the only one there is.

    Raises:
        V2WError: There is no camera, several and none is named, none of a name, or one is named twice.
    """
    asked = f"read the data set {path}"
    if not cameras:
        raise V2WError(asked, "it has no camera", "a data set with videos")
    if camera is None and len(cameras) > 1:
        found = f"it has several cameras: {', '.join(cameras)}"
        raise V2WError(asked, found, "name one with --camera, or several, separated by commas")
    if camera is None or camera in cameras:
        return [camera or cameras[0]]
    names = camera.split(",")
    if missing := [name for name in names if name not in cameras]:
        raise V2WError(asked, f"it has no camera {missing[0]!r}", ", ".join(cameras))
    if len(set(names)) < len(names):
        raise V2WError(asked, f"a camera is named twice: {camera}", "each once")
    return names

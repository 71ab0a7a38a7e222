"""HDF5 files of episodes, in the layouts of CS:GO, robomimic and Minari, or any that --key-map describes."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.dataset import Dataset, Format, choose_camera
from v2w_convert.data.episode import Episode, with_last_row
from v2w_convert.data.formats.hdf5_frames import frame_size, is_packed, read_frames
from v2w_convert.data.formats.hdf5_key_map import HELP, KeyMap, complete, read_key_map, recognise
from v2w_convert.data.formats.recorded_actions import (
    Recorded,
    column_names,
    flat,
    natural,
    require_finite,
    space_of,
)
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.hdf5 import find, members, open_hdf5, read_numbers, require_plain
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object

SUFFIXES = (".hdf5", ".h5")
METADATA = "metadata.json"  # of Minari
CAMERA = "frames"
MAX_FAULTS = 5
MAX_EPISODES = 1_000_000


class Hdf5Format(Format):
    """Recognises a file by its suffix, and a folder by such a file in it or in data/, where Minari puts it."""

    name: ClassVar[str] = "HDF5"
    contents: ClassVar[str] = "an .hdf5 or .h5 file, or a folder of them"
    takes: ClassVar[frozenset[str]] = frozenset({"camera", "action_kind", "key_map", "fps"})

    def matches(self, path: Path) -> bool:
        return bool(_files(path))

    def open(self, path: Path, settings: DataSettings) -> Dataset:
        return Hdf5Dataset(path, settings)


@dataclass(frozen=True)
class Entry:
    """An episode in a file.

    Attributes:
        file: The file.
        frames: The path of its frames, or of each frame.
        actions: The same of its actions.
        length: Frames.
        size: Their height and width.
    """

    file: Path
    frames: tuple[str, ...]
    actions: tuple[str, ...]
    length: int
    size: tuple[int, int]


class Hdf5Dataset(Dataset):
    """Episodes in the order of the files' names, and in each file of theirs. All actions are read when it is opened."""

    def __init__(self, path: Path, settings: DataSettings):
        """Read all actions and the sizes of all frames. `open_dataset` says what is raised."""
        self.path = path
        asked = f"read the data set {path}"
        folder, names = (path, _files(path)) if path.is_dir() else (path.parent, [path.name])
        files = [file_in(folder, name) for name in names]
        self._map = self._understood(files[0], settings, asked)
        self.camera = choose_camera(path, self.cameras, settings.camera)
        self._entries: list[Entry] = []
        self._recorded: list[Recorded] = []
        faults: list[str] = []
        for file in files:
            with open_hdf5(file) as root:
                for frames, actions in self._paths(root, file):
                    try:
                        self._read(root, file, frames, actions)
                    except ValueError as error:
                        faults.append(f"{file.name}: {error}")
                    if len(faults) == MAX_FAULTS:
                        raise V2WError(asked, faults)
        if faults:
            raise V2WError(asked, faults)
        if not self._entries:
            raise V2WError(asked, f"it has no episode with {self._map.frames} and {self._map.actions}", HELP)
        sizes = {entry.size for entry in self._entries}
        if len(sizes) > 1 and settings.height is None:
            found = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:MAX_FAULTS])
            raise V2WError(asked, f"frames are of several sizes: {found}", "--height and --width")
        if (fps := self._map.fps or settings.fps) is None:
            raise V2WError(asked, "it does not say how many frames there are a second", "--fps")
        self._fps = fps
        self._space = self._map.space
        if self._space is None or settings.action_kind is not None:
            self._space = space_of(self._recorded, settings, asked)
        elif self._map.encoded and (width := self._recorded[0].values.shape[1]) != self._space.dim:
            raise V2WError(asked, f"actions have {width} numbers, not {self._space.dim}")
        self._encoded = [self._encode(one, self._space) for one in self._recorded]

    @property
    def fps(self) -> float:
        return self._fps

    @property
    def cameras(self) -> list[str]:
        return list(self._map.cameras) if "{camera}" in self._map.frames else [CAMERA]

    @property
    def action_names(self) -> list[str]:
        return self.action_space.names

    @property
    def action_space(self) -> ActionSpace:
        assert self._space is not None
        return self._space

    @property
    def lengths(self) -> list[int]:
        return [entry.length for entry in self._entries]

    def actions(self) -> Iterator[NDArray[np.float32]]:
        for entry, actions in zip(self._entries, self._encoded, strict=True):
            yield actions if len(actions) == entry.length else with_last_row(actions)

    def episodes(self) -> Iterator[Episode]:
        return self.episodes_from(0)

    def episodes_from(self, number: int) -> Iterator[Episode]:
        for entry, actions in islice(zip(self._entries, self.actions(), strict=True), number, None):
            asked = f"read {entry.frames[0]!r} of {entry.file}"
            with open_hdf5(entry.file) as root:
                parts = [
                    read_frames(require_plain(find(root, path), path), entry.size, self._map.bgr, asked)
                    for path in entry.frames
                ]
            frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
            if len(frames) != entry.length:
                raise V2WError(asked, "it changed while it was read")
            yield Episode(np.ascontiguousarray(frames), actions)

    def fingerprint(self) -> str:
        """The SHA-256 of the files, and of where frames and actions lie in them."""
        digest = hashlib.sha256(f"{self._map}\n{self.camera}\n{self.action_space}\n".encode())
        for file in dict.fromkeys(entry.file for entry in self._entries):
            with file.open("rb") as stream:
                said = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(os.fsencode(file.name) + f" {said}\n".encode())
        return digest.hexdigest()

    def _understood(self, file: Path, settings: DataSettings, asked: str) -> KeyMap:
        """The map that is given, or that the first file is recognised by."""
        try:
            given = read_key_map(settings.key_map) if settings.key_map else None
        except ValueError as error:
            raise V2WError(f"read --key-map {settings.key_map}", str(error), HELP) from None
        with open_hdf5(file) as root:
            found = given or recognise(root)
            if found is None:
                some = ", ".join(members(root)[:10])
                raise V2WError(
                    asked,
                    f"its layout is not known; {file.name} has {some or 'nothing'}",
                    f"--key-map {HELP}",
                )
            beside = file.parent / METADATA
            metadata = (
                read_object(file_in(file.parent, METADATA), infinity=True) if os.path.lexists(beside) else {}
            )
            return complete(found, root, metadata)

    def _paths(self, root: Any, file: Path) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Of each episode, the paths of its frames and actions."""
        frames, actions = self._map.frames.replace("{camera}", self.camera), self._map.actions
        if "*" not in frames:
            yield (frames,), (actions,)
            return
        found = _matches(root, actions)
        if len(found) > MAX_EPISODES:
            raise ValueError(f"{len(found)} episodes")
        pairs = [(frames.replace("*", name), actions.replace("*", name)) for name in found]
        if pairs and (first := find(root, pairs[0][0])) is not None and hasattr(first, "ndim"):
            if not is_packed(first) and first.ndim == 3:  # a frame, not an episode
                yield tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
                return
        for one, other in pairs:
            yield (one,), (other,)

    def _read(self, root: Any, file: Path, frames: tuple[str, ...], actions: tuple[str, ...]) -> None:
        """Add an episode. Of many frames, each is checked when it is read."""
        asked = f"read {file}"
        first = require_plain(find(root, frames[0]), frames[0])
        size = frame_size(first, frames[0], asked)
        if len(frames) > 1:
            length = len(frames)
            rows = [
                read_numbers(require_plain(find(root, path), path), path, asked).ravel() for path in actions
            ]
            if len({len(row) for row in rows}) != 1:
                raise ValueError(f"{actions[0]!r:.200} and others have actions of several lengths")
            values = np.stack(rows)
        else:
            length = len(first)
            path = actions[0]
            values = flat(read_numbers(require_plain(find(root, path), path), path, asked), asked, path)
        if not length - 1 <= len(values) <= length:
            raise ValueError(
                f"{frames[0]!r:.200} has {length} frames, {actions[0]!r:.200} {len(values)} rows"
            )
        names = column_names(values.shape[1])
        require_finite(values, f"{asked}, {actions[0]!r:.200}", lambda row: f"row {row}", names)
        self._entries.append(Entry(file, frames, actions, length, size))
        self._recorded.append(Recorded(file, names, values))

    def _encode(self, recorded: Recorded, space: ActionSpace) -> Any:
        if self._map.encoded and space is self._map.space:
            return recorded.values.astype(np.float32)
        return space.encode(recorded.values, f"read {recorded.source}")


def _files(path: Path) -> list[str]:
    """Names of the files, relative to `path`; of a file, its own."""
    try:
        if path.is_dir():
            found: dict[str, list[str]] = defaultdict(list)
            for place in ("", "data"):
                if (path / place).is_dir():
                    found[place] = [name for name in os.listdir(path / place) if name.endswith(SUFFIXES)]
            names = found[""] or [f"data/{name}" for name in found["data"]]
            return sorted((name for name in names if not name.startswith(".")), key=natural)
        return [path.name] if path.suffix in SUFFIXES else []
    except OSError:
        return []


def _matches(root: Any, pattern: str) -> list[str]:
    """What the `*` of a pattern stands for, in the order of numbers in it."""
    parts = pattern.split("/")
    place = next(i for i, part in enumerate(parts) if "*" in part)
    before, after = parts[place].split("*")
    parent = find(root, "/".join(parts[:place])) if place else root
    names = [
        name[len(before) : len(name) - len(after)]
        for name in members(parent)
        if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
    ]
    rest = "/".join(parts[place + 1 :])
    if rest:
        names = [name for name in names if find(parent, f"{before}{name}{after}/{rest}") is not None]
    return sorted(names, key=natural)

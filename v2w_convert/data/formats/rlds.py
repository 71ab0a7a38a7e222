"""RLDS episodes as tensorflow_datasets stores them in TFRecord files, read without TensorFlow.

An episode is one `tf.train.Example`, in which what all its steps have under a name is one list (`ExampleSerializer` of
tensorflow_datasets): steps/observation/image of the PNG or JPEG files of t pictures, steps/action of t · a numbers.
"""

import hashlib
import os
import re
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
from v2w_convert.data.episode import Episode
from v2w_convert.data.formats.lerobot_actions import action_space
from v2w_convert.data.formats.recorded_actions import require_finite
from v2w_convert.data.formats.rlds_features import INSTRUCTIONS, STEPS, Leaf, choose_numbers, leaves
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.memory import new_frames
from v2w_convert.data.validation.picture_files import picture_size, read_picture
from v2w_convert.data.validation.tfrecord import Feature, Record, find_records, parse_example, parse_feature
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object

FEATURES, INFO = "features.json", "dataset_info.json"
SHARD = re.compile(r"(\w[\w.-]*)-(\w+)\.tfrecord-(\d{5})-of-(\d{5})", re.ASCII)
MAX_EPISODES = 1_000_000
MAX_TASK = 10_000  # bytes
TRY = "download or record the data again"


class RldsFormat(Format):
    """Recognises a folder by its features.json beside dataset_info.json, and a split by the first of its files."""

    name: ClassVar[str] = "RLDS"
    contents: ClassVar[str] = f"a folder with {FEATURES} and {INFO}"
    takes: ClassVar[frozenset[str]] = frozenset({"camera", "action_key", "action_kind", "fps"})

    def matches(self, path: Path) -> bool:
        folder = path if path.is_dir() else path.parent
        known = path.is_dir() or SHARD.fullmatch(path.name)
        return bool(known) and all(os.path.lexists(folder / name) for name in (FEATURES, INFO))

    def open(self, path: Path, settings: DataSettings) -> Dataset:
        return RldsDataset(path, settings)


@dataclass(frozen=True)
class Entry:
    """An episode.

    Attributes:
        record: Where it lies.
        length: Its steps.
        size: Height and width of its first picture.
        tasks: As `Episode.tasks`.
    """

    record: Record
    length: int
    size: tuple[int, int]
    tasks: tuple[str, ...]


class RldsDataset(Dataset):
    """The episodes of one split, in the order of its files. All are read once when it is opened, no picture is decoded."""

    def __init__(self, path: Path, settings: DataSettings):
        """Read all actions. `open_dataset` says what is raised."""
        self.path, self._asked = path, f"read the data set {path}"
        folder = path if path.is_dir() else path.parent
        self._files = [file_in(folder, name) for name in _split(path, self._asked)]
        self._declared = file_in(folder, FEATURES)
        try:
            self._leaves = leaves(read_object(self._declared))
        except ValueError as error:
            raise V2WError(f"read {self._declared}", str(error), TRY) from None
        self.camera = choose_camera(path, self.cameras, settings.camera)
        if settings.fps is None:
            raise V2WError(self._asked, "RLDS does not say how many frames there are a second", "--fps")
        self._fps = settings.fps
        numbers = choose_numbers(self._leaves, settings, self._asked)
        self._keys = [(one.key, one.width) for one in numbers]
        self._said = [leaf.name for leaf in self._leaves if leaf.kind == "text" and _instructs(leaf)]
        self._entries: list[Entry] = []
        recorded: list[NDArray[Any]] = []
        for record in (record for file in self._files for record in find_records(file)):
            if len(self._entries) == MAX_EPISODES:
                raise V2WError(self._asked, f"more than {MAX_EPISODES} episodes")
            entry, values = self._read(record)
            self._entries.append(entry)
            recorded.append(values)
        if not self._entries:
            raise V2WError(self._asked, "it has no episode", TRY)
        _require_count(folder, self._files[0].name, len(self._entries))
        sizes = {entry.size for entry in self._entries}
        if len(sizes) > 1 and settings.height is None:
            found = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:5])
            raise V2WError(self._asked, f"frames are of several sizes: {found}", "--height and --width")
        every = np.stack([values.max(0) for values in recorded]).max(0)
        ends = dict(
            zip(dict(self._keys), np.cumsum([width for _, width in self._keys]).tolist(), strict=True)
        )
        widths = dict(self._keys)

        def highest(key: str) -> NDArray[Any]:
            found: NDArray[Any] = every[ends[key] - widths[key] : ends[key]]
            return found

        self._space = action_space(numbers, highest, path, settings.choice_counts)
        self._actions = [self._space.encode(values, self._asked) for values in recorded]

    @property
    def fps(self) -> float:
        return self._fps

    @property
    def cameras(self) -> list[str]:
        return [leaf.name for leaf in self._leaves if leaf.kind == "picture"]

    @property
    def action_names(self) -> list[str]:
        return self._space.names

    @property
    def action_space(self) -> ActionSpace:
        return self._space

    @property
    def lengths(self) -> list[int]:
        return [entry.length for entry in self._entries]

    @property
    def tasks(self) -> list[tuple[str, ...]]:
        return [entry.tasks for entry in self._entries]

    def actions(self) -> Iterator[NDArray[np.float32]]:
        return iter(self._actions)

    def episodes(self) -> Iterator[Episode]:
        return self.episodes_from(0)

    def episodes_from(self, number: int) -> Iterator[Episode]:
        for entry, actions in islice(zip(self._entries, self._actions, strict=True), number, None):
            pictures = self._parsed(entry.record).entries_of(self.camera)
            asked = self._place(entry.record)
            if len(pictures) != entry.length:
                raise V2WError(asked, "it changed while it was read")
            frames = new_frames((entry.length, *entry.size, 3), asked, "its frames")
            for i, packed in enumerate(pictures):
                frame = read_picture(bytes(packed), f"{asked}, step {i}")
                if frame.shape[:2] != entry.size:
                    found = (
                        f"{frame.shape[0]} x {frame.shape[1]}, the first {entry.size[0]} x {entry.size[1]}"
                    )
                    raise V2WError(asked, f"the picture of step {i} is {found}")
                frames[i] = frame
            yield Episode(frames, actions, entry.tasks)

    def fingerprint(self) -> str:
        """The SHA-256 of the files, and of what is read of them."""
        digest = hashlib.sha256(f"{self.camera}\n{self._keys}\n{self._space}\n".encode())
        for file in (self._declared, *self._files):
            with file.open("rb") as stream:
                said = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(os.fsencode(file.name) + f" {said}\n".encode())
        return digest.hexdigest()

    def _read(self, record: Record) -> tuple[Entry, NDArray[Any]]:
        """An episode, and the numbers of its actions (t r)."""
        asked, parsed = self._place(record), self._parsed(record)
        pictures = parsed.entries_of(self.camera)
        if not pictures:
            raise V2WError(asked, f"no picture {self.camera!r}", TRY)
        t = len(pictures)
        size = picture_size(bytes(pictures[0]), f"{asked}, step 0")
        columns = [parsed.numbers_of(key, t, width) for key, width in self._keys]
        values = columns[0] if len(columns) == 1 else np.concatenate(columns, 1)
        names = [f"{key}_{i}" for key, width in self._keys for i in range(width)]
        require_finite(values, asked, lambda row: f"step {row}", names)
        said = dict.fromkeys(text for name in self._said for text in parsed.texts_of(name))
        return Entry(record, t, size, tuple(said)), values

    def _parsed(self, record: Record) -> "_Steps":
        try:
            return _Steps(self._place(record), parse_example(record.read()))
        except ValueError as error:
            raise V2WError(self._place(record), str(error), TRY) from None

    def _place(self, record: Record) -> str:
        return f"read the record at byte {record.start} of {record.file}"


@dataclass(frozen=True)
class _Steps:
    """The lists of an episode; `asked` says what is being done."""

    asked: str
    lists: dict[str, memoryview]

    def _feature(self, name: str) -> Feature:
        try:
            return parse_feature(self.lists.get(f"{STEPS}/{name}", memoryview(b"")))
        except ValueError as error:
            raise V2WError(self.asked, f"{name!r:.200}: {error}", TRY) from None

    def entries_of(self, name: str) -> list[memoryview]:
        return self._feature(name).entries

    def numbers_of(self, name: str, t: int, width: int) -> NDArray[Any]:
        """(t width), of floats or whole numbers, as they are."""
        found = self._feature(name).numbers
        if len(found) != t * width:
            raise V2WError(self.asked, f"{name!r:.200} has {len(found)} numbers, not {t} · {width}", TRY)
        return found.reshape(t, width)

    def texts_of(self, name: str) -> Iterator[str]:
        """What is said in the steps, each once."""
        for entry in {bytes(entry): None for entry in self.entries_of(name)}:
            if len(entry) > MAX_TASK:
                raise V2WError(self.asked, f"{name!r:.200} has a text of {len(entry)} bytes")
            try:
                text = entry.decode("utf-8").strip()
            except UnicodeDecodeError:
                raise V2WError(self.asked, f"{name!r:.200} has a text that is not UTF-8", TRY) from None
            if text:
                yield text


def _instructs(leaf: Leaf) -> bool:
    return leaf.name.rpartition("/")[2] in INSTRUCTIONS


def _split(path: Path, asked: str) -> list[str]:
    """The files of the one split, or of that whose file is named.

    Raises:
        V2WError: There are several, or none, or a file is missing.
    """
    folder = path if path.is_dir() else path.parent
    splits: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(os.listdir(folder)):
        if found := SHARD.fullmatch(name):
            splits[found[1], found[2]].append(name)
    if not path.is_dir():
        named = SHARD.fullmatch(path.name)
        assert named is not None
        splits = defaultdict(list, {(named[1], named[2]): splits[named[1], named[2]]})
    if not splits:
        raise V2WError(asked, "it has no files NAME-SPLIT.tfrecord-00000-of-00001", "data in TFRecord files")
    if len(splits) > 1:
        said = f"it has several splits: {', '.join(split for _, split in splits)}"
        raise V2WError(asked, said, f"the first file of one, such as {folder / min(splits.values())[0]}")
    [names] = splits.values()
    count = int(names[0].rpartition("-")[2])
    wanted = [re.sub(r"-\d{5}-of-\d{5}$", f"-{i:05d}-of-{count:05d}", names[0]) for i in range(count)]
    if names != wanted:
        raise V2WError(asked, f"of {count} files of the split there are {len(names)}", TRY)
    return names


def _require_count(folder: Path, file: str, count: int) -> None:
    """Raise V2WError if dataset_info.json says that the split has another number of episodes, or nothing that is clear."""
    asked = f"read {file_in(folder, INFO)}"
    split, told = SHARD.fullmatch(file), read_object(folder / INFO).get("splits", [])
    assert split is not None
    for said in told if isinstance(told, list) else []:
        if isinstance(said, dict) and said.get("name") == split[2]:
            lengths = said.get("shardLengths", [])
            texts = list(map(str, lengths)) if isinstance(lengths, list) else ["?"]
            if not all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
                raise V2WError(asked, f"shardLengths of {split[2]} are no numbers", TRY)
            if (total := sum(map(int, texts))) != count:
                raise V2WError(asked, f"{total} episodes, and the files have {count}", TRY)

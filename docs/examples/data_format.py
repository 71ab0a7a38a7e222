"""A data format: a folder of .npz files, one for each episode. The how-to "Add a data format" shows this file."""

# --8<-- [start:format]
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np

from v2w_convert.data.dataset import Dataset, Format, choose_camera
from v2w_convert.data.episode import Episode
from v2w_convert.errors import V2WError


class NpzFormat(Format):
    """Each file has `frames` (t, height, width, 3) uint8, `actions` (t, a), `fps` ()."""

    name: ClassVar[str] = "npz"
    contents: ClassVar[str] = "a folder of .npz files, one for each episode"

    def matches(self, path: Path) -> bool:
        return path.is_dir() and any(path.glob("*.npz"))

    def open(self, path: Path, camera: str | None) -> Dataset:
        return NpzDataset(path, camera)


class NpzDataset(Dataset):
    """The episodes of a folder, in the order of the files' names."""

    def __init__(self, path: Path, camera: str | None):
        self.path = path
        self.files = sorted(path.glob("*.npz"))
        self.camera = choose_camera(path, self.cameras, camera)

    @property
    def fps(self) -> float:
        return float(_read(self.files[0], "fps"))

    @property
    def cameras(self) -> list[str]:
        return ["frames"]

    @property
    def action_names(self) -> list[str]:
        count = _read(self.files[0], "actions").shape[-1]
        return [f"action_{number}" for number in range(count)]

    @property
    def lengths(self) -> list[int]:
        return [len(_read(file, "actions")) for file in self.files]

    def episodes(self) -> Iterator[Episode]:
        for file in self.files:
            actions = _read(file, "actions").astype(np.float32)
            yield Episode(_read(file, self.camera), actions)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def _read(file: Path, key: str) -> Any:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return arrays[key]
    except (OSError, ValueError, KeyError, BadZipFile):
        raise V2WError(
            f"read {file}", f"no array {key!r} can be read from it", "save it again"
        ) from None


# --8<-- [end:format]

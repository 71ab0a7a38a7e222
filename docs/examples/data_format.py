"""A data format: a folder of .npz files, one for each episode. The how-to "Add a data format" shows this file."""

# --8<-- [start:format]
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.dataset import Dataset, Format, choose_camera
from v2w_convert.data.episode import Episode
from v2w_convert.data.settings import DataSettings
from v2w_convert.data.validation.arrays import read_array
from v2w_convert.data.validation.files import file_in
from v2w_convert.errors import V2WError


class NpzFormat(Format):
    """Each file has `frames` (t, height, width, 3) uint8, `actions` (t, a), `fps` ()."""

    name: ClassVar[str] = "npz"
    contents: ClassVar[str] = "a folder of .npz files, one for each episode"

    def matches(self, path: Path) -> bool:
        return path.is_dir() and any(path.glob("*.npz"))

    def open(self, path: Path, settings: DataSettings) -> Dataset:
        return NpzDataset(path, settings)


class NpzDataset(Dataset):
    """The episodes of a folder, in the order of the files' names."""

    def __init__(self, path: Path, settings: DataSettings):
        self.path = path
        names = sorted(file.name for file in path.glob("*.npz"))
        self.files = [file_in(path, name) for name in names]
        self.camera = choose_camera(path, self.cameras, settings.camera)

    @property
    def fps(self) -> float:
        return float(_read(self.files[0], "fps", axes=0))

    @property
    def cameras(self) -> list[str]:
        return ["frames"]

    @property
    def action_names(self) -> list[str]:
        count = _read(self.files[0], "actions", axes=2).shape[-1]
        return [f"action_{number}" for number in range(count)]

    @property
    def lengths(self) -> list[int]:
        return [len(_read(file, "actions", axes=2)) for file in self.files]

    def episodes(self) -> Iterator[Episode]:
        for file in self.files:
            actions = _read(file, "actions", axes=2).astype(np.float32)
            yield Episode(_read(file, self.camera, axes=4), actions)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()


def _read(file: Path, key: str, axes: int) -> NDArray[Any]:
    found = read_array(file, key)
    if found.ndim != axes or not len(np.atleast_1d(found)):
        raise V2WError(
            f"read {file}", f"{key} is of shape {found.shape}", f"{axes} axes"
        )
    return found


# --8<-- [end:format]

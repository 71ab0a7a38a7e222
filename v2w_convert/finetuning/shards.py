"""Many tensors in a folder, in files of moderate size, of which any can be read without the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.listing import first
from v2w_convert.errors import V2WError
from v2w_convert.utf8_path import utf8_path
from v2w_convert.world.finite import is_finite

SHARD_BYTES = 256 * 2**20
AGAIN = "delete that folder: it is encoded again"


class ShardWriter:
    """Writes tensors to 00000.safetensors, 00001.safetensors, …, with one shard in memory at a time."""

    def __init__(self, folder: Path):
        self.folder, self.written = folder, 0
        self._shard: dict[str, Tensor] = {}

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Add tensors, which stay in one shard."""
        self._shard |= tensors
        if sum(tensor.nbytes for tensor in self._shard.values()) > SHARD_BYTES:
            self.finish()

    def finish(self) -> None:
        """Write what was not written yet."""
        if self._shard:
            save_file(self._shard, self.folder / f"{self.written:05d}.safetensors")
            self._shard, self.written = {}, self.written + 1


@dataclass(frozen=True)
class Stored:
    """A tensor in a shard.

    Attributes:
        name: Its name.
        shape: Its shape.
        dtype: As safetensors spells it.
        file: The shard, open.
        path: The shard's path.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Any
    path: Path

    def __getitem__(self, rows: int | slice) -> Tensor:
        """Some of its rows.

        Raises:
            V2WError: They hold numbers that are not finite.
        """
        value: Tensor = self.file.get_slice(self.name)[rows]
        if not is_finite(value):
            raise V2WError(f"read {self.path}", f"{self.name} has numbers that are not finite", AGAIN)
        return value


def open_shards(folder: Path) -> dict[str, Stored]:
    """Every tensor in the folder, by name. No values are read.

    Raises:
        V2WError: A file there is malformed, or a name is in two.
    """
    found: dict[str, Stored] = {}
    for path in sorted(folder.glob("*.safetensors")):
        header = read_header(path)
        if twice := found.keys() & header.keys():
            raise V2WError(f"read {path}", f"{min(twice)} is in {found[min(twice)].path.name}, too", AGAIN)
        with utf8_path(path) as opened:
            file: Any = safe_open(opened, framework="pt")
        found |= {name: Stored(name, info.shape, info.dtype, file, path) for name, info in header.items()}
    return found


def require(folder: Path, faults: list[str]) -> None:
    """Raise V2WError if what lies in `folder` is not what was encoded."""
    if faults:
        raise V2WError(f"use what was encoded in {folder}", first(faults, 3), AGAIN)

"""Many tensors in a folder, in files of moderate size, of which any can be read without the others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from v2w_convert.checkpoint.headers import DTYPES, read_header
from v2w_convert.checkpoint.listing import first
from v2w_convert.checkpoint.output import write_safetensors
from v2w_convert.errors import V2WError
from v2w_convert.new_file import new_file
from v2w_convert.utf8_path import utf8_path
from v2w_convert.world.finite import is_finite

SHARD_BYTES = 64 * 2**20  # what is lost at most when a process is killed while it encodes
EPISODE = re.compile(r"\d{8}", re.ASCII)
AGAIN = "delete that folder: it is encoded again"


class ShardWriter:
    """Writes tensors to 00000.safetensors, 00001.safetensors, …, with one shard in memory at a time.

    A shard appears whole or not at all. Where some are there, it goes on after them.
    """

    def __init__(self, folder: Path):
        """Look which shards there are.

        Raises:
            V2WError: They are not the first ones.
        """
        there = {file.name for file in folder.glob("*.safetensors")}
        if there != {shard_name(number) for number in range(len(there))}:
            require(folder, ["its files are not numbered from 0 on"])
        self.folder, self.written = folder, len(there)
        self._shard: dict[str, Tensor] = {}

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Add tensors, which stay in one shard."""
        self._shard |= tensors
        if sum(tensor.nbytes for tensor in self._shard.values()) > SHARD_BYTES:
            self.finish()

    def finish(self) -> None:
        """Write what was not written yet."""
        if self._shard:
            with new_file(self.folder / shard_name(self.written)) as file:
                write_tensors(file, self._shard)
            self._shard, self.written = {}, self.written + 1


def cut_into_shards(sizes: Sequence[int]) -> list[range]:
    """Which episodes of these sizes in bytes lie in which shard: as few as hold more than SHARD_BYTES; all if there are fewer.

    Episodes of no size, of which nothing is written, belong to a shard that others are in. Without any others there is none.
    """
    ends, size = [], 0
    for number, own in enumerate(sizes, 1):
        size += own
        if size > SHARD_BYTES:
            ends.append(number)
            size = 0
    if size:
        ends.append(len(sizes))
    elif ends:
        ends[-1] = len(sizes)
    return [range(first, end) for first, end in zip([0, *ends], ends, strict=False)]


def shards_there(folder: Path, names: Sequence[Sequence[str]]) -> set[int]:
    """Which shards are in the folder.

    Args:
        folder: The folder.
        names: Of the tensors in each shard that may be there.

    Raises:
        V2WError: Another one is there, or one is malformed or holds other tensors.
    """
    wanted = {shard_name(number): (number, set(own)) for number, own in enumerate(names)}
    found = set()
    for path in folder.glob("*.safetensors"):
        number, own = wanted.get(path.name, (-1, set()))
        if number < 0 or read_header(path).keys() != own:
            require(folder, [f"{path.name} is not one of its files, or holds other episodes"])
        found.add(number)
    return found


def shard_name(number: int) -> str:
    """The name of a shard's file."""
    return f"{number:05d}.safetensors"


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a new safetensors file, of the permissions that the umask leaves, and flush it to the disk.

    The library's own `save_file` lets nobody but the owner read it.
    """
    codes = {dtype.torch: code for code, dtype in DTYPES.items()}
    infos = [
        (name, codes[str(x.dtype).removeprefix("torch.")], tuple(x.shape)) for name, x in tensors.items()
    ]
    # Wide numbers first, so that each lies at a multiple of its width: readers map them in place.
    infos.sort(key=lambda info: (-DTYPES[info[1]].bits, info[0]))
    write_safetensors(file, ((name, tensors[name].detach()) for name, _, _ in infos), infos, {})


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


def episode_name(number: int) -> str:
    """What the names of an episode's tensors begin with, before a dot."""
    return f"{number:08d}"


def next_episode(folder: Path) -> int:
    """The number after the last episode that the shards in the folder hold, which hold all before it.

    Raises:
        V2WError: As `open_shards`.
    """
    names = {name.partition(".")[0] for name in open_shards(folder)}
    return 1 + max((int(name) for name in names if EPISODE.fullmatch(name)), default=-1)


def require(folder: Path, faults: list[str]) -> None:
    """Raise V2WError if what lies in `folder` is not what was encoded."""
    if faults:
        raise V2WError(f"use what was encoded in {folder}", first(faults, 3), AGAIN)

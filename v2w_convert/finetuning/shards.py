"""Many tensors in a folder, in files of moderate size, of which any can be read without the others."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

SHARD_BYTES = 256 * 2**20


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


def open_shards(folder: Path) -> dict[str, Any]:
    """Name of each tensor in the folder -> the open shard that holds it."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        shard: Any = safe_open(file, framework="pt")
        found |= dict.fromkeys(shard.keys(), shard)
    return found

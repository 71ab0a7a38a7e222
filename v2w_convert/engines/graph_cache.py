"""Exported graphs that are kept between commands: writing one takes half a minute, opening it a moment.

    FOLDER/KEY/step.onnx, step.onnx.data (over 2 GB), digests.json

KEY is a digest of all that the graph was made of. What lies there is used only if its files are exactly those that were
written, by their digests; a caller also compares its rollouts with torch's. Anything else under KEY is removed.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from v2w_convert.checkpoint import digests
from v2w_convert.checkpoint.output import staging_folder
from v2w_convert.errors import V2WError
from v2w_convert.onnx_export.target import files_of
from v2w_convert.strict_json import read_object

GRAPH, DIGESTS = "step.onnx", "digests.json"
PACKAGES = (
    "v2w-convert",
    "torch",
    "diffusers",
    "onnx",
    "onnxscript",
    "onnxruntime",
)  # on which a graph depends
KEY = re.compile("[0-9a-f]{64}")
LEFT = re.compile(r"\.[0-9a-f]{64}\.partial-.+")  # by a process that was killed
MAX_GRAPHS = 16
MAX_BYTES = 8 * 2**30
DAY = 86_400  # seconds

Made = TypeVar("Made")


def default_folder() -> Path:
    """Where graphs are kept: `v2w/graphs` in the user's cache folder.

    Raises:
        V2WError: The user has no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "v2w" / "graphs"
    except RuntimeError as error:
        raise V2WError("keep graphs in the user's cache folder", str(error), "--cache DIR") from error


def graph_key(model: nn.Module, facts: Mapping[str, Any]) -> str:
    """The name of the graph of a model, by every parameter and buffer, whatever else it depends on, and versions.

    Args:
        model: The model, on the CPU.
        facts: JSON values: its plan, config, shapes.
    """
    digest = digests.new_digest()
    versions = {name: version(name) for name in PACKAGES}
    digest.update(json.dumps([versions, facts], sort_keys=True, allow_nan=False).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    found: str = digest.hexdigest()
    return found


def kept_graph(folder: Path, key: str) -> Path | None:
    """The file of a graph that is kept, untouched since it was written; None: there is none.

    Args:
        folder: Where graphs are kept.
        key: The graph's.
    """
    entry = folder / key
    if entry.is_symlink() or not entry.is_dir():
        return None
    files = [file for file in files_of(entry / GRAPH) if file.name != DIGESTS]
    try:
        recorded = read_object(entry / DIGESTS)
        untouched = recorded.keys() == {file.name for file in files} and all(
            not file.is_symlink()
            and re.fullmatch(digests.PATTERN, str(recorded[file.name]))
            and digests.is_recorded(file, recorded[file.name])
            for file in files
        )
    except (V2WError, OSError):
        return None
    if not untouched or GRAPH not in recorded:
        return None
    with suppress(OSError):
        os.utime(entry)  # the graphs that were not used for longest are removed first
    return entry / GRAPH


def keep_graph(folder: Path, key: str, make: Callable[[Path], Made]) -> Made:
    """What `make` returns, whose graph is kept unless it raises.

    Args:
        folder: Where graphs are kept; at most MAX_GRAPHS of together MAX_BYTES, and the newest.
        key: The graph's. What lies there is removed.
        make: Given the file to write, in a folder of its own.

    Raises:
        V2WError: The folder cannot be written, the disk is full or fails.
    """
    entry, made = folder / key, None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove(entry)
        with staging_folder(entry) as stage:
            made = make(stage / GRAPH)
            recorded = {file.name: digests.file_digest(file) for file in files_of(stage / GRAPH)}
            (stage / DIGESTS).write_text(json.dumps(recorded, allow_nan=False), "utf-8")
    except OSError as error:
        raise V2WError(
            f"keep a graph in {folder}", str(error), "--cache DIR, a folder that can be written"
        ) from error
    except V2WError:
        if made is None or not entry.is_dir():  # else another process has kept the same graph meanwhile
            raise
    _forget_oldest(folder, entry)
    return made


def _forget_oldest(folder: Path, newest: Path) -> None:
    """Remove graphs beyond the limits, those first that were not used for longest, and what killed processes left."""
    entries = []
    with suppress(OSError):  # of which another process removes the same
        for entry in folder.iterdir():
            used = entry.lstat().st_mtime
            if LEFT.fullmatch(entry.name) and used < time.time() - DAY:
                _remove(entry)
            elif KEY.fullmatch(entry.name) and entry != newest:
                entries.append((used, entry))
        size = _size(newest)
        for number, (_, entry) in enumerate(sorted(entries, reverse=True), 2):
            size += _size(entry)
            if number > MAX_GRAPHS or size > MAX_BYTES:
                _remove(entry)


def _size(entry: Path) -> int:
    return sum(file.lstat().st_size for file in entry.iterdir()) if entry.is_dir() else 0


def _remove(entry: Path) -> None:
    """Remove what lies at a graph's place, but not what a link leads to."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)

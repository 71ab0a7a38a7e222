"""A whole data set of three episodes, and what to change in its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.coloured import episodes
from tests.hostile.datasets import Spoil
from v2w_convert.data import write_dataset

CAMERA = "observation.image"
INFO = "meta/info.json"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
TASKS = "meta/tasks.parquet"
DATA = "data/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
FILES = (INFO, EPISODES, TASKS, DATA, VIDEO)
FPS = 9
MISSING = object()


def write(folder: Path) -> Path:
    """Episodes of 5, 9 and 2 frames of 16 x 16, with two numbers an action."""
    write_dataset(episodes(), folder, fps=FPS, action_names=["x", "y"], task="test", robot="none")
    return folder


def info(*path: str | int, to: Any) -> Spoil:
    """Puts `to`, or the text that a call of it with the JSON's text gives, at this path of info.json."""

    def spoil(folder: Path) -> None:
        content = parent = json.loads((folder / INFO).read_text())
        for key in path[:-1]:
            parent = parent[key]
        if to is MISSING:
            del parent[path[-1]]
        else:
            parent[path[-1]] = to
        (folder / INFO).write_text(json.dumps(content))

    return spoil


def content(file: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Replaces a file's bytes."""
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def table(file: str, change: Callable[[pa.Table], pa.Table], **options: Any) -> Spoil:
    """Replaces a parquet file's table."""

    def spoil(folder: Path) -> None:
        pq.write_table(change(pq.read_table(folder / file, partitioning=None)), folder / file, **options)

    return spoil


def column(file: str, name: str, change: Callable[[list[Any]], Any], type_: Any = None) -> Spoil:
    """Replaces a column by what `change` makes of its values."""

    def replaced(whole: pa.Table) -> pa.Table:
        place, values = whole.column_names.index(name), change(whole[name].to_pylist())
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, type_)
        return whole.set_column(place, name, array)

    return table(file, replaced)


def at(row: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    """Replaces one value."""
    return lambda values: [value if i == row % len(values) else v for i, v in enumerate(values)]

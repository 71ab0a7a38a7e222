"""The tasks of a LeRobot v3 data set: meta/tasks.parquet, and a number into it for every frame."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from v2w_convert.errors import V2WError

FILE = "meta/tasks.parquet"


def read_table(path: Path, columns: list[str]) -> pa.Table:
    """These columns of a parquet file or folder.

    Raises:
        V2WError: It is not parquet with these columns.
    """
    try:
        return pq.ParquetDataset(path).read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise V2WError(
            f"read {path}", f"it is not parquet with the columns {', '.join(columns)} ({error})"
        ) from None


def task_texts(folder: Path) -> dict[int, str]:
    """The text of each task of the data set in `folder`; none where it has no such file.

    Raises:
        V2WError: The file is not as LeRobot writes it.
    """
    if not (folder / FILE).is_file():
        return {}
    rows: list[dict[str, Any]] = read_table(folder / FILE, ["task_index", "task"]).to_pylist()
    texts = {row["task_index"]: row["task"] for row in rows}
    if not all(isinstance(text, str) for text in texts.values()):
        raise V2WError(f"read {folder / FILE}", "a task is not a text")
    return texts


def named_tasks(numbers: Iterable[int], texts: dict[int, str], folder: Path) -> tuple[str, ...]:
    """The texts of an episode's tasks, in the order in which its frames have them; an empty text is none.

    Raises:
        V2WError: A frame has a task without a text.
    """
    found = dict.fromkeys(numbers)
    if unknown := [number for number in found if number not in texts]:
        raise V2WError(
            f"read the data set {folder}", f"a frame has task {unknown[0]}, which {FILE} does not have"
        )
    return tuple(text for number in found if (text := texts[number].strip()))


def episode_tasks(files: Iterable[Path], texts: dict[int, str], folder: Path) -> dict[int, tuple[str, ...]]:
    """The tasks of each episode by its number, read from the data files alone.

    Raises:
        V2WError: A file cannot be read, or a frame has a task without a text.
    """
    numbers: dict[int, list[int]] = {}
    for file in files:
        table = read_table(file, ["episode_index", "task_index", "index"]).sort_by("index")
        columns = (table[name].to_pylist() for name in ("episode_index", "task_index"))
        for episode, task in zip(*columns, strict=True):
            numbers.setdefault(episode, []).append(task)
    return {episode: named_tasks(tasks, texts, folder) for episode, tasks in numbers.items()}

"""The tasks of a LeRobot v3 data set: meta/tasks.parquet, and a number into it for every frame."""

import os
from collections.abc import Iterable
from pathlib import Path

from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.tables import Table
from v2w_convert.errors import V2WError

FILE = "meta/tasks.parquet"
COLUMNS = ("task", "__index_level_0__")  # lerobot stores texts as the pandas index, with or without a name


def task_texts(folder: Path) -> dict[int, str]:
    """The text of each task of the data set in `folder`; none where it has no such file.

    Raises:
        V2WError: The file is not as LeRobot writes it.
    """
    if not os.path.lexists(folder / FILE):
        return {}
    file = file_in(folder, FILE)
    names = Table(file, {"task_index": "whole"}).names
    text = next((name for name in COLUMNS if name in names), COLUMNS[0])
    columns = Table(file, {"task_index": "whole", text: "text"}).read()
    numbers = columns["task_index"].tolist()
    if len(set(numbers)) < len(numbers):
        raise V2WError(f"read {file}", "column 'task_index': a number is there twice")
    return dict(zip(numbers, columns[text], strict=True))


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

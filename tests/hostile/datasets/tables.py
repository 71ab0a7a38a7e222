"""The three kinds of parquet files."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tests.hostile.datasets import Spoil
from tests.hostile.datasets.whole import CAMERA, DATA, EPISODES, TASKS, at, column, content, table

WHOLE_NUMBERS = {
    EPISODES: [
        "episode_index", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index",
        f"videos/{CAMERA}/chunk_index", f"videos/{CAMERA}/file_index",
    ],
    DATA: ["frame_index", "episode_index", "index", "task_index"],
    TASKS: ["task_index"],
}  # fmt: skip
TIMES = {
    EPISODES: [f"videos/{CAMERA}/from_timestamp", f"videos/{CAMERA}/to_timestamp"],
    DATA: ["timestamp"],
}
Change = Callable[[list[Any]], Any]
# Of a column of whole numbers.
NUMBERS: dict[str, tuple[Change, Any]] = {
    "null": (at(0, None), None),
    "negative": (at(0, -1), None),
    "large": (at(-1, 2**62), None),
    "one more": (lambda values: [v + 1 for v in values], None),
    "as texts": (lambda values: list(map(str, values)), None),
    "as bytes": (lambda values: [str(v).encode() for v in values], None),
    "with a half": (at(0, 0.5), pa.float64()),
    "as NaN": (at(0, float("nan")), pa.float64()),
    "as lists": (lambda values: [[v] for v in values], None),
    "as dates": (lambda values: pa.array(values, pa.int64()).cast(pa.timestamp("s")), None),
    "as structs": (lambda values: [{"a": v} for v in values], None),
    "as nothing": (lambda values: pa.nulls(len(values)), None),
}
SECONDS: dict[str, tuple[Change, Any]] = {
    "null": (at(0, None), None),
    "NaN": (at(0, float("nan")), None),
    "infinite": (at(-1, float("inf")), None),
    "negative": (at(0, -5.0), None),
    "late": (at(-1, 1e30), None),
    "a second later": (lambda values: [v + 1 for v in values], None),
    "as texts": (lambda values: list(map(str, values)), None),
    "as lists": (lambda values: [[v] for v in values], None),
}
ACTIONS: dict[str, tuple[Change, Any]] = {
    "null": (at(3, None), None),
    "a null number": (at(3, [None, 1.0]), pa.list_(pa.float32())),
    "NaN": (at(3, [1.0, float("nan")]), None),
    "infinite": (at(3, [1.0, float("-inf")]), None),
    "too large for float32": (at(3, [1.0, 1e300]), pa.list_(pa.float64())),
    "shorter once": (at(3, [1.0]), pa.list_(pa.float32())),
    "empty once": (at(3, []), pa.list_(pa.float32())),
    "longer once and shorter once": (lambda v: [[1.0], [1.0] * 3, *v[2:]], pa.list_(pa.float32())),
    "of three numbers": (lambda values: [[*v, 1.0] for v in values], pa.list_(pa.float32(), 3)),
    "of one number": (lambda values: [v[:1] for v in values], pa.list_(pa.float32(), 1)),
    "a number": (lambda values: [v[0] for v in values], None),
    "of texts": (lambda values: [list(map(str, v)) for v in values], None),
    "of bytes": (lambda values: [b"12345678" for _ in values], None),
    "nested": (lambda values: [[[1.0, 2.0]] * 2 for _ in values], None),
    "a struct": (lambda values: [{"x": 1.0, "y": 2.0} for _ in values], None),
    "nothing": (lambda values: pa.nulls(len(values)), None),
}
FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "only the mark": lambda _: b"PAR1",
    "only marks": lambda _: b"PAR1PAR1",
    "text": lambda _: b"episode_index,length\n0,5\n",
    "half": lambda whole: whole[: len(whole) // 2],
    "without its last byte": lambda whole: whole[:-1],
    "without its first byte": lambda whole: whole[1:],
    "zeros": lambda whole: bytes(len(whole)),
    "a footer without content": lambda whole: b"PAR1" + whole[-8 - int.from_bytes(whole[-8:-4], "little") :],
    "a footer of 4 GB": lambda whole: whole[:-8] + b"\xff\xff\xff\xffPAR1",
    "an empty footer": lambda whole: whole[:-8] + b"\0\0\0\0PAR1",
    "encrypted": lambda whole: whole[:-4] + b"PARE",
    "a feather": lambda _: b"ARROW1" + bytes(100) + b"ARROW1",
}


def without(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda whole: whole.drop_columns([name])


def twice(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda whole: whole.append_column(name, whole[name])


ROWS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "without rows": lambda whole: whole.slice(0, 0),
    "without the first row": lambda whole: whole.slice(1),
    "without the last row": lambda whole: whole.slice(0, len(whole) - 1),
    "with all rows twice": lambda whole: pa.concat_tables([whole, whole]),
    "with the last row twice": lambda whole: pa.concat_tables([whole, whole.slice(len(whole) - 1)]),
    "without columns": lambda whole: whole.select([]),
}
CASES: dict[str, Spoil] = {}
for file in (EPISODES, DATA, TASKS):
    where = file.rsplit("/chunk", 1)[0].removesuffix(".parquet")
    CASES |= {f"{where} {name}": content(file, change) for name, change in FILES.items()}
    if file != TASKS:
        CASES |= {f"{where} {name}": table(file, change) for name, change in ROWS.items()}
    for name in WHOLE_NUMBERS[file]:
        CASES |= {f"{where} {name} {how}": column(file, name, *change) for how, change in NUMBERS.items()}
    for name in TIMES.get(file, []):
        CASES |= {f"{where} {name} {how}": column(file, name, *change) for how, change in SECONDS.items()}
    for name in (*WHOLE_NUMBERS[file], *TIMES.get(file, []), *(["action"] if file == DATA else [])):
        CASES[f"{where} without {name}"] = table(file, without(name))
        CASES[f"{where} with {name} twice"] = table(file, twice(name))
CASES |= {f"data action {how}": column(DATA, "action", *change) for how, change in ACTIONS.items()}
CASES |= {
    "meta/episodes lengths exchanged": column(EPISODES, "length", lambda _: [9, 5, 2]),
    "meta/episodes a length of 0": column(EPISODES, "length", at(1, 0)),
    "meta/episodes in one another's place": column(EPISODES, "episode_index", lambda _: [1, 0, 2]),
    "meta/episodes an episode twice": column(EPISODES, "episode_index", lambda _: [0, 1, 1]),
    "meta/episodes an episode left out": column(EPISODES, "episode_index", lambda _: [0, 1, 3]),
    "meta/episodes frames of another episode": column(EPISODES, f"videos/{CAMERA}/from_timestamp", at(1, 0.0)),
    "meta/episodes a file that is not there": column(EPISODES, "data/file_index", at(1, 1)),
    "meta/episodes a video that is not there": column(EPISODES, f"videos/{CAMERA}/chunk_index", at(1, 7)),
    "meta/episodes twice, in two files": lambda folder: (folder / EPISODES).with_name("file-001.parquet").write_bytes(
        (folder / EPISODES).read_bytes()
    ),
    "data rows of another episode": column(DATA, "episode_index", at(6, 0)),
    "data frames exchanged": column(DATA, "frame_index", lambda v: [v[1], v[0], *v[2:]]),
    "data all of one episode": column(DATA, "episode_index", lambda v: [0] * len(v)),
    "data a frame twice": column(DATA, "frame_index", at(1, 0)),
    "data an index twice": column(DATA, "index", at(1, 0)),
    "data a task without text": column(DATA, "task_index", at(1, 1)),
    "data timestamps of another rate": column(DATA, "timestamp", lambda v: [2 * t for t in v]),
    "tasks null": column(TASKS, "task", at(0, None)),
    "tasks numbers": column(TASKS, "task", lambda v: [1.5] * len(v)),
    "tasks bytes that are no text": column(TASKS, "task", lambda v: [b"\xff\xfe"] * len(v)),
    "tasks lists": column(TASKS, "task", lambda v: [[t] for t in v]),
    "tasks of 10 MB": column(TASKS, "task", lambda v: ["x" * 10**7] * len(v)),
    "tasks without texts": table(TASKS, without("task")),
    "tasks twice, with other texts": lambda folder: table(
        TASKS, lambda _: pa.table({"task_index": [0, 0], "task": ["a", "b"]})
    )(folder),
}  # fmt: skip
"""All are to be refused."""

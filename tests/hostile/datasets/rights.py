"""What is unusual and right: as lerobot and others write it. All are to be read as the whole data set."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile.datasets import Spoil
from tests.hostile.datasets.videos import encoded
from tests.hostile.datasets.whole import (
    CAMERA,
    DATA,
    EPISODES,
    INFO,
    TASKS,
    VIDEO,
    column,
    content,
    info,
    table,
)


def same(whole: pa.Table) -> pa.Table:
    return whole


def cast(file: str, name: str, type_: pa.DataType) -> Spoil:
    return column(file, name, lambda values: values, type_)


def more(name: str, values: Callable[[int], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    return lambda whole: whole.append_column(name, values(len(whole)))


def two_files(folder: Path) -> None:
    """The last two episodes lie in files of their own, as lerobot begins new ones at a size."""
    rows = pq.read_table(folder / DATA)
    first, second = folder / DATA, (folder / DATA).with_name("file-001.parquet")
    pq.write_table(rows.slice(0, 5), first)
    pq.write_table(rows.slice(5), second)
    listed = pq.read_table(folder / EPISODES)
    listed = listed.set_column(
        listed.column_names.index("data/file_index"), "data/file_index", pa.array([0, 1, 1])
    )
    pq.write_table(listed.slice(0, 2), folder / EPISODES)
    pq.write_table(listed.slice(2), (folder / EPISODES).with_name("file-001.parquet"))


def pandas_index(folder: Path) -> None:
    """Tasks are the pandas index, without a name."""
    pq.write_table(pa.table({"task_index": [0], "__index_level_0__": ["test"]}), folder / TASKS)


def container(suffix: str, format_: str, codec: str = "libx264") -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / VIDEO).unlink()
        (folder / VIDEO).with_suffix(suffix).write_bytes(encoded(format_, codec))
        info(
            "video_path", to=f"videos/{{video_key}}/chunk-{{chunk_index:03d}}/file-{{file_index:03d}}{suffix}"
        )(folder)

    return spoil


SHUFFLED = np.random.default_rng(0).permutation(16)
CASES: dict[str, Spoil] = {
    "one row group": table(DATA, same),
    "a row group for each row": table(DATA, same, row_group_size=1),
    "without compression": table(DATA, same, compression="none"),
    "gzip, second version of pages": table(DATA, same, compression="gzip", data_page_version="2.0"),
    "zstd, many pages": table(DATA, same, compression="zstd", data_page_size=16, use_dictionary=False),
    "bytes split": table(DATA, same, use_dictionary=False, use_byte_stream_split=["action.list.element"]),
    "without statistics": table(DATA, same, write_statistics=False),
    "without the Arrow schema": table(DATA, same, store_schema=False),
    "with checksums": table(DATA, same, write_page_checksum=True),
    "rows in another order": table(DATA, lambda whole: whole.take(pa.array(SHUFFLED))),
    "other columns, nested": table(DATA, more("other", lambda n: pa.array([[[{"a": ["b"]}]]] * n))),
    "other columns, of texts": table(DATA, more("other", lambda n: pa.array(["x" * 1000] * n))),
    "other columns, of nothing": table(DATA, more("other", pa.nulls)),
    "statistics beside episodes": table(EPISODES, more("stats/action/mean", lambda n: pa.array([[1.0, 2.0]] * n))),
    "actions of variable length": cast(DATA, "action", pa.list_(pa.float32())),
    "actions in large lists": cast(DATA, "action", pa.large_list(pa.float32())),
    "actions in float64": cast(DATA, "action", pa.list_(pa.float64(), 2)),
    "actions of whole numbers": column(DATA, "action", lambda v: [[int(x) for x in row] for row in v], pa.list_(pa.int64())),
    "indexes in int32": cast(DATA, "index", pa.int32()),
    "indexes in uint8": cast(DATA, "episode_index", pa.uint8()),
    "timestamps in float64": cast(DATA, "timestamp", pa.float64()),
    "several files": two_files,
    "tasks without a name": pandas_index,
    "tasks in large strings": cast(TASKS, "task", pa.large_string()),
    "tasks in a dictionary": column(TASKS, "task", lambda v: pa.array(v).dictionary_encode()),
    "no names of frames' axes": info("features", CAMERA, "names", to=None),
    "frames with channels first": info(
        "features", CAMERA, to={"dtype": "video", "shape": [3, 16, 16], "names": ["channels", "height", "width"]}
    ),
    "frames with channels first, unnamed": info("features", CAMERA, to={"dtype": "video", "shape": [3, 16, 16], "names": None}),
    "the axis of colours called channel": info("features", CAMERA, "names", to=["height", "width", "channel"]),
    "names of actions by groups": info("features", "action", "names", to={"motors": ["x", "y"]}),
    "another feature": info("features", "observation.state", to={"dtype": "float32", "shape": [7], "names": None}),
    "a camera that sees distances": info(
        "features", "depth", to={"dtype": "video", "shape": [16, 16, 1], "names": None, "info": {"video.is_depth_map": True}}
    ),
    "frames a second as 9.0": info("fps", to=9.0),
    "version 3.1": info("codebase_version", to="v3.1"),
    "paths without widths": lambda folder: (
        info("data_path", to="data/chunk-00{chunk_index}/file-00{file_index:01d}.parquet")(folder),
    ),
    "the camera's name in the path of its data": lambda folder: (
        (folder / "data").rename(folder / CAMERA),
        info("data_path", to="{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet")(folder),
    ),
    "the same description in one line": content(INFO, lambda text: json.dumps(json.loads(text)).encode()),
    "no statistics": lambda folder: (folder / "meta/stats.json").unlink(),
    "other files": lambda folder: (folder / "README.md").write_text("x"),
    "hidden files, as macOS leaves": lambda folder: (folder / EPISODES).with_name("._file-000.parquet").write_text("x"),
    "a link inside": lambda folder: (
        (folder / VIDEO).rename(folder / "elsewhere.mp4"),
        (folder / VIDEO).symlink_to("../../../elsewhere.mp4"),
    ),
    "Matroska": container(".mkv", "matroska"),
    "QuickTime": container(".mov", "mov"),
    "AVI": container(".avi", "avi", "mpeg4"),
    "MPEG-4": lambda folder: (folder / VIDEO).write_bytes(encoded("mp4", "mpeg4")),
    "moved to the front": lambda folder: (folder / VIDEO).write_bytes(encoded("mp4", options={"crf": "18"})),
}  # fmt: skip

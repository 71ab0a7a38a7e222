"""Writes LeRobot v3 data sets, with pyarrow and PyAV, because lerobot itself pins an older torch."""

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.episode import Episode
from v2w_convert.data.formats.lerobot_parts import StoredPart, stored_parts
from v2w_convert.errors import V2WError

CAMERA = "observation.image"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
# lerobot looks its tasks up by the pandas index, which pyarrow alone does not record.
TASKS_PANDAS = {
    "index_columns": ["task"],
    "column_indexes": [],
    "columns": [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ],
}


def write(
    episodes: Iterable[Episode], folder: Path, *, fps: int, space: ActionSpace, task: str, robot: str
) -> None:
    """Write `episodes` as a LeRobot v3 data set with one data file and one video file.

    Args and errors as in `v2w_convert.data.write_dataset`.
    """
    asked = f"write a data set to {folder}"
    if folder.exists() and any(folder.iterdir()):
        raise V2WError(asked, "the folder is not empty", "name a new one")
    episodes = iter(episodes)
    first = next(episodes, None)
    if first is None:
        raise V2WError(asked, "no episode to write")
    height, width = first.frames.shape[1:3]
    a = first.actions.shape[1]
    if space.dim != a:
        raise V2WError(asked, f"{space.dim} action names for actions of {a} numbers")
    if height % 2 or width % 2:
        raise V2WError(asked, f"frames of {height} x {width}", "even sides, as videos have")
    parts = stored_parts(space, asked)
    data_file = folder / DATA_PATH.format(chunk_index=0, file_index=0)
    video_file = folder / VIDEO_PATH.format(video_key=CAMERA, chunk_index=0, file_index=0)
    for file in (data_file, video_file, folder / EPISODES_PATH):
        file.parent.mkdir(parents=True, exist_ok=True)

    schema = _data_schema(parts)
    rows: list[dict[str, Any]] = []
    actions: dict[str, list[NDArray[Any]]] = {part.key: [] for part in parts}
    start, frame_stats = 0, _FrameStats()
    tasks: dict[str, int] = {}  # their numbers
    with (
        data_file.open("wb") as sink,  # pyarrow takes no path that is not UTF-8
        pq.ParquetWriter(sink, schema) as parquet,
        av.open(str(video_file), "w") as video,
    ):
        # Every second frame is a key frame, so that a clip anywhere can be read without decoding much.
        stream = video.add_stream("libx264", rate=fps, options={"crf": "18", "g": "2", "preset": "veryslow"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, episode in enumerate(chain([first], episodes)):
            t = len(episode)
            if episode.frames.shape[1:3] != (height, width) or episode.actions.shape[1] != a:
                found = (
                    f"episode {number} has frames of {' x '.join(map(str, episode.frames.shape[1:3]))} and"
                )
                found += f" actions of {episode.actions.shape[1]}, the first {height} x {width} and {a}"
                raise V2WError(asked, found, "episodes of one size")
            own = episode.tasks or (task,)  # of several, which frames belong to which is not known
            for part in parts:
                actions[part.key].append(part.values(episode.actions, f"{asked}, episode {number}"))
            columns = {
                **{part.key: part.column(actions[part.key][-1]) for part in parts},
                "timestamp": pa.array(np.arange(t) / fps, pa.float32()),
                "frame_index": pa.array(np.arange(t)),
                "episode_index": pa.array(np.full(t, number)),
                "index": pa.array(np.arange(start, start + t)),
                "task_index": pa.array(np.full(t, tasks.setdefault(own[0], len(tasks)))),
            }
            parquet.write_table(pa.table(columns, schema=schema))  # one row group an episode
            for frame in episode.frames:
                video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            frame_stats.add(episode.frames)
            rows.append(
                {
                    "episode_index": number,
                    "tasks": [own[0]],
                    "length": t,
                    "data/chunk_index": 0,
                    "data/file_index": 0,
                    "dataset_from_index": start,
                    "dataset_to_index": start + t,
                    f"videos/{CAMERA}/chunk_index": 0,
                    f"videos/{CAMERA}/file_index": 0,
                    f"videos/{CAMERA}/from_timestamp": start / fps,
                    f"videos/{CAMERA}/to_timestamp": (start + t) / fps,
                    "meta/episodes/chunk_index": 0,
                    "meta/episodes/file_index": 0,
                }
            )
            start += t
        video.mux(stream.encode())

    with (folder / EPISODES_PATH).open("wb") as sink:
        pq.write_table(pa.Table.from_pylist(rows), sink)
    table = pa.table({"task_index": pa.array(tasks.values()), "task": pa.array(tasks)})
    table = table.replace_schema_metadata({b"pandas": json.dumps(TASKS_PANDAS, allow_nan=False).encode()})
    with (folder / "meta/tasks.parquet").open("wb") as sink:
        pq.write_table(table, sink)
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot,
        "total_episodes": len(rows),
        "total_frames": start,
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": {
            CAMERA: {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.fps": fps,
                    "video.codec": "h264",
                    "video.pix_fmt": "yuv420p",
                    "has_audio": False,
                },
            },
            **{part.key: part.feature for part in parts},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar),
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info, indent=2, allow_nan=False) + "\n")
    stats = {key: _stats(np.concatenate(values)) for key, values in actions.items()}
    stats |= {CAMERA: frame_stats.stats()}
    (folder / "meta/stats.json").write_text(json.dumps(stats, indent=2, allow_nan=False) + "\n")


def _data_schema(parts: list[StoredPart]) -> pa.Schema:
    features = {
        **{part.key: part.huggingface for part in parts},
        "timestamp": {"dtype": "float32", "_type": "Value"},
    }
    integers = ("frame_index", "episode_index", "index", "task_index")
    features |= {name: {"dtype": "int64", "_type": "Value"} for name in integers}
    fields = [*(part.field for part in parts), pa.field("timestamp", pa.float32())]
    fields += [pa.field(name, pa.int64()) for name in integers]
    return pa.schema(
        fields,
        metadata={b"huggingface": json.dumps({"info": {"features": features}}, allow_nan=False).encode()},
    )


def _stats(values: NDArray[Any]) -> dict[str, list[Any]]:
    """Statistics of each number of the actions, as lerobot names them."""
    exact = values.astype(np.float64)
    return {
        "min": exact.min(0).tolist(),
        "max": exact.max(0).tolist(),
        "mean": exact.mean(0).tolist(),
        "std": exact.std(0).tolist(),
        "count": [len(values)],
    }


class _FrameStats:
    """Per-channel statistics of frames in [0, 1], without keeping the frames."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, np.zeros(3), np.zeros(3)
        self.low, self.high = np.ones(3), np.zeros(3)

    def add(self, frames: NDArray[np.uint8]) -> None:
        pixels = frames.reshape(-1, 3) / 255.0
        self.count += len(pixels)
        self.sum += pixels.sum(0)
        self.squares += (pixels**2).sum(0)
        self.low, self.high = np.minimum(self.low, pixels.min(0)), np.maximum(self.high, pixels.max(0))

    def stats(self) -> dict[str, list[Any]]:
        mean = self.sum / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))
        shaped = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        return {k: v.reshape(3, 1, 1).tolist() for k, v in shaped.items()} | {"count": [self.count]}

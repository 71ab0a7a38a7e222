"""LeRobot v3 data sets: parquet for numbers, mp4 for pictures, many episodes to a file.

Layout as lerobot 0.4 reads and writes it (github.com/huggingface/lerobot, `datasets/`); written
here with pyarrow and PyAV because lerobot itself pins an older torch.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from v2w_convert.data.episode import Episode
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
    episodes: Iterable[Episode], folder: Path, *, fps: int, action_names: list[str], task: str, robot: str
) -> None:
    """Write `episodes` as a LeRobot v3 data set with one data file and one video file.

    Raises V2WError if `folder` has anything in it, or if there is no episode.
    """
    if folder.exists() and any(folder.iterdir()):
        raise V2WError(f"write a data set to {folder}", "the folder is not empty", "name a new one")
    episodes = iter(episodes)
    first = next(episodes, None)
    if first is None:
        raise V2WError(f"write a data set to {folder}", "no episode to write")
    height, width = first.frames.shape[1:3]
    a = first.actions.shape[1]
    data_file = folder / DATA_PATH.format(chunk_index=0, file_index=0)
    video_file = folder / VIDEO_PATH.format(video_key=CAMERA, chunk_index=0, file_index=0)
    for file in (data_file, video_file, folder / EPISODES_PATH):
        file.parent.mkdir(parents=True, exist_ok=True)

    schema = _data_schema(a, action_names)
    rows, actions, start, moments = [], [], 0, _Moments()
    with pq.ParquetWriter(data_file, schema) as parquet, av.open(str(video_file), "w") as video:
        # Every second frame is a key frame, so that a clip anywhere can be read without decoding much.
        stream = video.add_stream("libx264", rate=fps, options={"crf": "18", "g": "2", "preset": "veryslow"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, episode in enumerate(_with_first(first, episodes)):
            t = len(episode)
            columns = {
                "action": pa.FixedSizeListArray.from_arrays(
                    pa.array(episode.actions.ravel(), pa.float32()), a
                ),
                "timestamp": pa.array(np.arange(t) / fps, pa.float32()),
                "frame_index": pa.array(np.arange(t)),
                "episode_index": pa.array(np.full(t, number)),
                "index": pa.array(np.arange(start, start + t)),
                "task_index": pa.array(np.zeros(t, np.int64)),
            }
            parquet.write_table(pa.table(columns, schema=schema))  # one row group an episode
            for frame in episode.frames:
                video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            moments.add(episode.frames)
            actions.append(episode.actions)
            rows.append(
                {
                    "episode_index": number,
                    "tasks": [task],
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

    pq.write_table(pa.Table.from_pylist(rows), folder / EPISODES_PATH)
    tasks = pa.table({"task_index": pa.array([0]), "task": pa.array([task])})
    tasks = tasks.replace_schema_metadata({b"pandas": json.dumps(TASKS_PANDAS).encode()})
    pq.write_table(tasks, folder / "meta/tasks.parquet")
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot,
        "total_episodes": len(rows),
        "total_frames": start,
        "total_tasks": 1,
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
            "action": {"dtype": "float32", "shape": [a], "names": action_names},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar),
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info, indent=2) + "\n")
    stats = {"action": _stats(np.concatenate(actions)), CAMERA: moments.stats()}
    (folder / "meta/stats.json").write_text(json.dumps(stats, indent=2) + "\n")


def read_info(folder: Path) -> dict[str, Any]:
    """meta/info.json, checked for what reading needs. Raises V2WError if this is no LeRobot v3 data set."""
    asked = f"read the data set {folder}"
    if not folder.is_dir():
        raise V2WError(asked, "no such folder", "check the path")
    file = folder / "meta/info.json"
    if not file.is_file():
        raise V2WError(asked, "it has no meta/info.json", "a LeRobot v3 data set")
    try:
        info = json.loads(file.read_text())
        version, features = info["codebase_version"], info["features"]
        total = info["total_episodes"]
        shape = features["action"]["shape"]
    except (ValueError, KeyError, TypeError) as error:
        raise V2WError(asked, f"meta/info.json is not a data set's description ({error!r})") from None
    if not str(version).startswith("v3"):
        raise V2WError(asked, f"its layout is {version}", "convert it with lerobot's v2.1 to v3.0 script")
    if not total:
        raise V2WError(asked, "it has no episode", "record some")
    if len(shape) != 1:
        raise V2WError(asked, f"actions of shape {shape}", "one flat vector per frame")
    if not video_keys(info):
        raise V2WError(asked, "it has no video feature", "a data set with a camera")
    return info


def video_keys(info: dict[str, Any]) -> list[str]:
    return [name for name, feature in info["features"].items() if feature.get("dtype") == "video"]


def read(folder: Path, camera: str | None = None) -> Iterator[Episode]:
    """The episodes of a LeRobot v3 data set, in order, decoded one at a time.

    camera  which video feature; needed only where there are several.
    """
    info = read_info(folder)
    asked = f"read the data set {folder}"
    cameras = video_keys(info)
    if camera is None and len(cameras) > 1:
        raise V2WError(asked, f"several cameras: {', '.join(cameras)}", "say which with --camera")
    camera = camera or cameras[0]
    if camera not in cameras:
        raise V2WError(asked, f"no camera {camera!r}", ", ".join(cameras))
    prefix = f"videos/{camera}"
    columns = ["episode_index", "length", "dataset_from_index", "data/chunk_index", "data/file_index"]
    columns += [
        f"{prefix}/{name}" for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    ]
    episodes = _table(folder / "meta/episodes", columns).sort_by("episode_index").to_pylist()
    opened: dict[Path, tuple[pa.Table, Iterator[tuple[float, np.ndarray]]]] = {}
    tables: dict[Path, pa.Table] = {}
    for row in episodes:
        data_file = _inside(
            folder, info["data_path"], row["data/chunk_index"], row["data/file_index"], camera
        )
        video_file = _inside(
            folder, info["video_path"], row[f"{prefix}/chunk_index"], row[f"{prefix}/file_index"], camera
        )
        if data_file not in tables:
            tables = {data_file: _table(data_file, ["action", "index"]).sort_by("index")}
        table = tables[data_file]
        first = table["index"][0].as_py()
        part = table.slice(row["dataset_from_index"] - first, row["length"])
        actions = np.stack(part["action"].to_numpy(zero_copy_only=False)).astype(np.float32)
        if video_file not in opened:
            opened = {video_file: (table, _decode(video_file))}
        start, stop = row[f"{prefix}/from_timestamp"], row[f"{prefix}/to_timestamp"]
        half = 0.5 / info["fps"]  # timestamps are rounded; a frame belongs to the nearest tick
        frames = []
        for time, frame in opened[video_file][1]:
            if time < start - half:
                continue
            frames.append(frame)
            if time >= stop - 3 * half:
                break
        if len(frames) != row["length"]:
            raise V2WError(
                asked,
                f"episode {row['episode_index']} has {len(frames)} frames in its video, {row['length']} rows",
            )
        yield Episode(np.stack(frames), actions)


def _decode(file: Path) -> Iterator[tuple[float, np.ndarray]]:
    try:
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                yield float(frame.time or 0.0), frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError) as error:
        raise V2WError(f"decode {file}", f"it is damaged or no video ({error})", "record it again") from None


def _table(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.ParquetDataset(path).read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise V2WError(f"read {path}", f"it is no parquet with {', '.join(columns)} ({error})") from None


def _inside(folder: Path, template: str, chunk: int, number: int, camera: str) -> Path:
    """The file that a template of info.json names; never one outside the data set."""
    file = (folder / template.format(chunk_index=chunk, file_index=number, video_key=camera)).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise V2WError(f"read the data set {folder}", f"its info.json points outside of it: {template}")
    if not file.is_file():
        raise V2WError(f"read the data set {folder}", f"{file.name} is missing in {file.parent.name}")
    return file


def _with_first(first: Episode, rest: Iterator[Episode]) -> Iterator[Episode]:
    yield first
    yield from rest


def _data_schema(a: int, action_names: list[str]) -> pa.Schema:
    features = {
        "action": {"feature": {"dtype": "float32", "_type": "Value"}, "length": a, "_type": "Sequence"},
        "timestamp": {"dtype": "float32", "_type": "Value"},
    }
    integers = ("frame_index", "episode_index", "index", "task_index")
    features |= {name: {"dtype": "int64", "_type": "Value"} for name in integers}
    fields = [pa.field("action", pa.list_(pa.float32(), a)), pa.field("timestamp", pa.float32())]
    fields += [pa.field(name, pa.int64()) for name in integers]
    return pa.schema(fields, metadata={b"huggingface": json.dumps({"info": {"features": features}}).encode()})


def _stats(values: np.ndarray) -> dict[str, list]:
    values = values.astype(np.float64)
    return {
        "min": values.min(0).tolist(),
        "max": values.max(0).tolist(),
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "count": [len(values)],
    }


class _Moments:
    """Per-channel statistics of pictures in [0, 1], without keeping the pictures."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, np.zeros(3), np.zeros(3)
        self.low, self.high = np.ones(3), np.zeros(3)

    def add(self, frames: np.ndarray) -> None:
        pixels = frames.reshape(-1, 3) / 255.0
        self.count += len(pixels)
        self.sum += pixels.sum(0)
        self.squares += (pixels**2).sum(0)
        self.low, self.high = np.minimum(self.low, pixels.min(0)), np.maximum(self.high, pixels.max(0))

    def stats(self) -> dict[str, list]:
        mean = self.sum / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))
        shaped = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        return {k: v.reshape(3, 1, 1).tolist() for k, v in shaped.items()} | {"count": [self.count]}

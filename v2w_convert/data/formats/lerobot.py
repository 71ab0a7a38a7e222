"""LeRobot v3 data sets: parquet for numbers, mp4 for frames, many episodes per file.

Layout as lerobot 0.4 reads and writes it (github.com/huggingface/lerobot, `datasets/`). Read and written
with pyarrow and PyAV, because lerobot itself pins an older torch.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from v2w_convert.data.dataset import Dataset, Format, choose_camera
from v2w_convert.data.episode import Episode
from v2w_convert.data.formats.lerobot_tasks import episode_tasks, named_tasks, read_table, task_texts
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
    if len(action_names) != a:
        raise V2WError(asked, f"{len(action_names)} action names for actions of {a} numbers")
    data_file = folder / DATA_PATH.format(chunk_index=0, file_index=0)
    video_file = folder / VIDEO_PATH.format(video_key=CAMERA, chunk_index=0, file_index=0)
    for file in (data_file, video_file, folder / EPISODES_PATH):
        file.parent.mkdir(parents=True, exist_ok=True)

    schema = _data_schema(a, action_names)
    rows: list[dict[str, Any]] = []
    actions: list[NDArray[np.float32]] = []
    start, frame_stats = 0, _FrameStats()
    with pq.ParquetWriter(data_file, schema) as parquet, av.open(str(video_file), "w") as video:
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
            frame_stats.add(episode.frames)
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
    tasks = tasks.replace_schema_metadata({b"pandas": json.dumps(TASKS_PANDAS, allow_nan=False).encode()})
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
    (folder / "meta/info.json").write_text(json.dumps(info, indent=2, allow_nan=False) + "\n")
    stats = {"action": _stats(np.concatenate(actions)), CAMERA: frame_stats.stats()}
    (folder / "meta/stats.json").write_text(json.dumps(stats, indent=2, allow_nan=False) + "\n")


class LeRobotFormat(Format):
    """Recognises LeRobot data sets by their meta/info.json."""

    name: ClassVar[str] = "LeRobot v3"
    contents: ClassVar[str] = "a folder with meta/info.json"

    def matches(self, path: Path) -> bool:
        return (path / "meta/info.json").is_file()

    def open(self, path: Path, camera: str | None) -> Dataset:
        return LeRobotDataset(path, camera)


class LeRobotDataset(Dataset):
    """A LeRobot v3 data set with videos and one flat action vector per frame."""

    def __init__(self, path: Path, camera: str | None = None):
        """Read and check meta/info.json. `open_dataset` says what is raised."""
        self.path = path
        self.info = _read_info(path)
        self.camera = choose_camera(path, self.cameras, camera)

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def cameras(self) -> list[str]:
        features = self.info["features"].items()
        return [name for name, feature in features if feature.get("dtype") == "video"]

    @property
    def action_names(self) -> list[str]:
        """As written in info.json, if there is a flat list of as many names as an action has numbers."""
        feature = self.info["features"]["action"]
        count, names = feature["shape"][0], feature.get("names")
        if isinstance(names, list) and len(names) == count:
            return [str(name) for name in names]
        return [f"action_{i}" for i in range(count)]

    @cached_property
    def lengths(self) -> list[int]:
        try:
            table = pq.ParquetDataset(self.path / "meta/episodes").read(columns=["episode_index", "length"])
            lengths: list[int] = table.sort_by("episode_index")["length"].to_pylist()
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            found = f"its meta/episodes cannot be read ({error})"
            raise V2WError(f"read the data set {self.path}", found) from None
        return lengths

    @property
    def tasks(self) -> list[tuple[str, ...]]:
        rows = self._episode_rows()
        if not (texts := task_texts(self.path)):
            return [()] * len(rows)
        found = episode_tasks(sorted({self._data_file(row) for row in rows}), texts, self.path)
        return [found.get(row["episode_index"], ()) for row in rows]

    def episodes(self) -> Iterator[Episode]:
        folder, camera = self.path, self.camera
        texts = task_texts(folder)
        columns = ["action", "index", *(["task_index"] if texts else [])]
        tables: dict[Path, pa.Table] = {}
        videos: dict[Path, Iterator[tuple[float, NDArray[np.uint8]]]] = {}
        for row in self._episode_rows():
            data_file = self._data_file(row)
            chunk, number = (row[f"videos/{camera}/{key}_index"] for key in ("chunk", "file"))
            video_file = _file(folder, self.info["video_path"], chunk, number, camera)
            # Episodes lie in the files one after the other: one open file of each kind is enough.
            if data_file not in tables:
                tables = {data_file: read_table(data_file, columns).sort_by("index")}
            if video_file not in videos:
                videos = {video_file: _decode(video_file)}
            table = tables[data_file]
            offset = row["dataset_from_index"] - table["index"][0].as_py()
            rows = table.slice(offset, row["length"])
            actions = rows["action"].to_numpy(zero_copy_only=False)
            tasks = named_tasks(rows["task_index"].to_pylist(), texts, folder) if texts else ()
            frames = self._frames(videos[video_file], row)
            yield Episode(frames, np.stack(actions).astype(np.float32), tasks)

    def fingerprint(self) -> str:
        """The SHA-256 of all of meta/ and data/, and of names and sizes of the videos, and of the camera's name."""
        digest = hashlib.sha256(f"{self.camera}\n".encode())
        for file in sorted(path for path in self.path.rglob("*") if path.is_file()):
            name = file.relative_to(self.path)
            if name.parts[0] in ("meta", "data"):
                with file.open("rb") as stream:
                    digest.update(f"{name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
            elif name.parts[0] == "videos":
                digest.update(f"{name} {file.stat().st_size}\n".encode())
        return digest.hexdigest()

    def _data_file(self, row: dict[str, Any]) -> Path:
        """The file that holds an episode's numbers."""
        numbers = row["data/chunk_index"], row["data/file_index"]
        return _file(self.path, self.info["data_path"], *numbers, self.camera)

    def _episode_rows(self) -> list[dict[str, Any]]:
        """Where each episode lies, in order."""
        columns = ["episode_index", "length", "dataset_from_index", "data/chunk_index", "data/file_index"]
        keys = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        columns += [f"videos/{self.camera}/{key}" for key in keys]
        table = read_table(self.path / "meta/episodes", columns)
        rows: list[dict[str, Any]] = table.sort_by("episode_index").to_pylist()
        return rows

    def _frames(
        self, video: Iterator[tuple[float, NDArray[np.uint8]]], row: dict[str, Any]
    ) -> NDArray[np.uint8]:
        """The frames of one episode from a `video` that is decoded up to its beginning."""
        start, stop = (row[f"videos/{self.camera}/{key}_timestamp"] for key in ("from", "to"))
        half = 0.5 / self.info["fps"]  # timestamps are rounded; a frame belongs to the nearest tick
        frames = []
        for time, frame in video:
            if time < start - half:
                continue
            frames.append(frame)
            if time >= stop - 3 * half:
                break
        if len(frames) != row["length"]:
            found = (
                f"episode {row['episode_index']} has {len(frames)} frames in its video, {row['length']} rows"
            )
            raise V2WError(f"read the data set {self.path}", found)
        return np.stack(frames)


def _read_info(folder: Path) -> dict[str, Any]:
    """meta/info.json, checked for what reading needs.

    Raises:
        V2WError: It does not describe a data set of this version with an action vector, cameras and episodes.
    """
    asked = f"read the data set {folder}"
    try:
        info: dict[str, Any] = json.loads((folder / "meta/info.json").read_text())
        version, features = info["codebase_version"], info["features"]
        total = info["total_episodes"]
        shape = features["action"]["shape"]
        _ = float(info["fps"]), info["data_path"], info["video_path"]  # needed later
        cameras = [name for name, feature in features.items() if feature.get("dtype") == "video"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise V2WError(asked, f"meta/info.json is not a data set's description ({error!r})") from None
    if not str(version).startswith("v3"):
        raise V2WError(asked, f"its layout is {version}", "convert it with lerobot's v2.1 to v3.0 script")
    if not total:
        raise V2WError(asked, "it has no episode", "record some")
    if len(shape) != 1:
        raise V2WError(asked, f"actions of shape {shape}", "one flat vector per frame")
    if not cameras:
        raise V2WError(asked, "it has no video feature", "a data set with a camera")
    return info


def _decode(file: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Seconds and frame, one after the other."""
    try:
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                yield float(frame.time or 0.0), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, IndexError) as error:
        raise V2WError(
            f"decode {file}", f"it is damaged or not a video ({error})", "record it again"
        ) from None


def _file(folder: Path, template: str, chunk: int, number: int, camera: str) -> Path:
    """The file that a template of info.json names; never one outside the data set."""
    file = (folder / template.format(chunk_index=chunk, file_index=number, video_key=camera)).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise V2WError(f"read the data set {folder}", f"its info.json points outside of it: {template}")
    if not file.is_file():
        raise V2WError(f"read the data set {folder}", f"{file.name} is missing in {file.parent.name}")
    return file


def _data_schema(a: int, action_names: list[str]) -> pa.Schema:
    features = {
        "action": {"feature": {"dtype": "float32", "_type": "Value"}, "length": a, "_type": "Sequence"},
        "timestamp": {"dtype": "float32", "_type": "Value"},
    }
    integers = ("frame_index", "episode_index", "index", "task_index")
    features |= {name: {"dtype": "int64", "_type": "Value"} for name in integers}
    fields = [pa.field("action", pa.list_(pa.float32(), a)), pa.field("timestamp", pa.float32())]
    fields += [pa.field(name, pa.int64()) for name in integers]
    return pa.schema(
        fields,
        metadata={b"huggingface": json.dumps({"info": {"features": features}}, allow_nan=False).encode()},
    )


def _stats(values: NDArray[np.float32]) -> dict[str, list[Any]]:
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

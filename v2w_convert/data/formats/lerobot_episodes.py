"""The list of episodes of a LeRobot data set: where the rows and frames of each lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.formats.lerobot_info import INFO, MAX_EPISODES, Info
from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.tables import Kind, Table
from v2w_convert.data.validation.templates import fill_template
from v2w_convert.errors import V2WError

EPISODES = "meta/episodes"
TRY = "download or record it again"


@dataclass(frozen=True, slots=True)
class VideoPart:
    """Frames of an episode in a video.

    Attributes:
        file: The video.
        start: Where the frames begin in it, in seconds.
        frames: How many there are; None: all from there on.
    """

    file: Path
    start: float
    frames: int | None


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """Where an episode lies.

    Attributes:
        number: Its number.
        rows: How many rows it has.
        length: How many of them, from the first on, are used.
        start: The number of its first frame among those of all episodes.
        data_file: The file that its rows are in.
        videos: For each camera that is a video, its frames.
    """

    number: int
    rows: int
    length: int
    start: int
    data_file: Path
    videos: Mapping[str, VideoPart]


def read_episode_rows(folder: Path, info: Info, cameras: Sequence[str]) -> list[EpisodeRow]:
    """All episodes of a data set of version 3, in order.

    Args:
        folder: The data set.
        info: Its description.
        cameras: Those of its cameras that are videos and are to be read.

    Raises:
        V2WError: The list contradicts itself or info.json, or a file of an episode is not there.
    """
    kinds: dict[str, Kind] = dict.fromkeys(
        [
            "episode_index",
            "length",
            "dataset_from_index",
            "dataset_to_index",
            "data/chunk_index",
            "data/file_index",
            *(f"videos/{camera}/{part}_index" for camera in cameras for part in ("chunk", "file")),
        ],
        "whole",
    )
    kinds |= {f"videos/{camera}/{end}_timestamp": "seconds" for camera in cameras for end in ("from", "to")}
    columns = _read(folder, kinds)
    _check(columns, info, cameras, folder)
    files: dict[tuple[str, int, int], Path] = {}

    def file(template: str, row: int, folder_of: str, camera: str = "") -> Path:
        chunk, number = (int(columns[f"{folder_of}/{part}_index"][row]) for part in ("chunk", "file"))
        key = (folder_of, chunk, number)
        if key not in files:
            files[key] = file_in(
                folder, fill_template(template, camera, chunk_index=chunk, file_index=number)
            )
        return files[key]

    def video(camera: str, row: int) -> VideoPart:
        begin, end = (float(columns[f"videos/{camera}/{at}_timestamp"][row]) for at in ("from", "to"))
        frames = max(round((end - begin) * info.fps), 0)
        return VideoPart(file(info.video_path or "", row, f"videos/{camera}", camera), begin, frames)

    return [
        EpisodeRow(
            row,
            length,
            length,
            start,
            file(info.data_path, row, "data", cameras[0] if cameras else "data"),
            {camera: video(camera, row) for camera in cameras},
        )
        for row, (length, start) in enumerate(
            zip(columns["length"].tolist(), columns["dataset_from_index"].tolist(), strict=True)
        )
    ]


def _read(folder: Path, kinds: dict[str, Kind]) -> dict[str, NDArray[np.int64 | np.float64]]:
    """The columns of all files of the list, in the order of the episodes."""
    asked = f"read the data set {folder}"
    files = sorted((folder / EPISODES).glob("*/[!.]*.parquet"))
    if not files:
        raise V2WError(asked, f"there is no parquet file in {EPISODES}/*", TRY)
    tables = [Table(file_in(folder, file.relative_to(folder)), kinds) for file in files]
    if (count := sum(table.rows for table in tables)) > MAX_EPISODES:
        raise V2WError(asked, f"{EPISODES} has {count} episodes, over the limit of {MAX_EPISODES}")
    parts = [table.read() for table in tables]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in kinds}
    order = np.argsort(joined["episode_index"], kind="stable")
    return {name: column[order] for name, column in joined.items()}


def _check(
    columns: dict[str, NDArray[np.int64 | np.float64]], info: Info, cameras: Sequence[str], folder: Path
) -> None:
    number, length = columns["episode_index"], columns["length"]
    start, stop = columns["dataset_from_index"], columns["dataset_to_index"]
    checks = {
        "episode_index": number == np.arange(len(number)),
        "length": length >= 1,
        "dataset_to_index": stop - start == length,
    }
    for video in (f"videos/{camera}" for camera in cameras):
        begin, end = columns[f"{video}/from_timestamp"], columns[f"{video}/to_timestamp"]
        places = np.stack([columns[f"{video}/{part}_index"] for part in ("chunk", "file")])
        same = (places[:, 1:] == places[:, :-1]).all(axis=0)
        good = ~same | (end[:-1] <= begin[1:] + 0.5 / info.fps)
        checks[f"{video}/to_timestamp"] = np.append(good, True)
    found = []
    for name, good in checks.items():
        if not good.all():
            row = int(np.argmin(good))
            found.append(
                f"column {name!r}, episode {row}: {columns[name][row]:.10g}, of {length[row]} frames"
            )
    found += totals(len(number), int(length.sum()), info)
    if found:
        raise V2WError(f"read {folder / EPISODES}", found, TRY)


def totals(episodes: int, frames: int, info: Info) -> list[str]:
    """What the list has and info.json contradicts."""
    pairs = (("total_episodes", episodes, info.total_episodes), ("total_frames", frames, info.total_frames))
    return [f"{count} in it, {INFO} says {name}: {said}" for name, count, said in pairs if count != said]

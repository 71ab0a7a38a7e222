"""The list of episodes of a LeRobot v3 data set: where the rows and frames of each lie."""

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
class EpisodeRow:
    """Where an episode lies.

    Attributes:
        number: Its number.
        length: Frames.
        start: The number of its first frame among those of all episodes.
        data_file: The file that its rows are in.
        video_file: The file that its frames are in.
        video_start: Where they begin in it, in seconds.
    """

    number: int
    length: int
    start: int
    data_file: Path
    video_file: Path
    video_start: float


def read_episode_rows(folder: Path, info: Info, camera: str) -> list[EpisodeRow]:
    """All episodes, in order.

    Raises:
        V2WError: The list contradicts itself or info.json, or a file of an episode is not there.
    """
    video = f"videos/{camera}"
    kinds: dict[str, Kind] = dict.fromkeys(
        [
            "episode_index",
            "length",
            "dataset_from_index",
            "dataset_to_index",
            "data/chunk_index",
            "data/file_index",
        ],
        "whole",
    )
    kinds |= {f"{video}/chunk_index": "whole", f"{video}/file_index": "whole"}
    kinds |= {f"{video}/from_timestamp": "seconds", f"{video}/to_timestamp": "seconds"}
    columns = _read(folder, kinds)
    _check(columns, info, video, folder)
    files: dict[tuple[str, int, int], Path] = {}

    def file(template: str, chunk: int, number: int) -> Path:
        key = (template, chunk, number)
        if key not in files:
            name = fill_template(template, chunk_index=chunk, file_index=number, video_key=camera)
            files[key] = file_in(folder, name)
        return files[key]

    rows = zip(*(columns[name].tolist() for name in kinds), strict=True)
    return [
        EpisodeRow(
            number,
            length,
            start,
            file(info.data_path, data_chunk, data_file),
            file(info.video_path or "", video_chunk, video_file),
            begin,
        )
        for number, length, start, _, data_chunk, data_file, video_chunk, video_file, begin, _ in rows
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


def _check(columns: dict[str, NDArray[np.int64 | np.float64]], info: Info, video: str, folder: Path) -> None:
    number, length = columns["episode_index"], columns["length"]
    start, stop = columns["dataset_from_index"], columns["dataset_to_index"]
    begin, end = columns[f"{video}/from_timestamp"], columns[f"{video}/to_timestamp"]
    checks = {
        "episode_index": number == np.arange(len(number)),
        "length": length >= 1,
        "dataset_to_index": stop - start == length,
        f"{video}/to_timestamp": np.abs(end - begin - length / info.fps) <= 0.5 / info.fps,
    }
    found = []
    for name, good in checks.items():
        if not good.all():
            row = int(np.argmin(good))
            found.append(
                f"column {name!r}, episode {row}: {columns[name][row]:.10g}, of {length[row]} frames"
            )
    for name, count, said in (
        ("total_episodes", len(number), info.total_episodes),
        ("total_frames", int(length.sum()), info.total_frames),
    ):
        if count != said:
            found.append(f"{count} in it, {INFO} says {name}: {said}")
    if found:
        raise V2WError(f"read {folder / EPISODES}", found, TRY)

"""The lists of a LeRobot data set of version 2: episodes and tasks as lines of JSON, a file for each episode."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from v2w_convert.data.formats.lerobot_episodes import TRY, EpisodeRow, VideoPart, totals
from v2w_convert.data.formats.lerobot_info import MAX_EPISODES, MAX_FRAMES, Info
from v2w_convert.data.validation.files import file_in
from v2w_convert.data.validation.tables import MAX_TEXT
from v2w_convert.data.validation.templates import fill_template
from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_lines

EPISODES, TASKS = "meta/episodes.jsonl", "meta/tasks.jsonl"


class _Episode(BaseModel):
    model_config = ConfigDict(strict=True)

    episode_index: int = Field(ge=0, le=MAX_EPISODES)
    length: int = Field(ge=1, le=MAX_FRAMES)


class _Task(BaseModel):
    model_config = ConfigDict(strict=True)

    task_index: int = Field(ge=0, le=MAX_EPISODES)
    task: Annotated[str, Field(max_length=MAX_TEXT)]


Line = TypeVar("Line", _Episode, _Task)


def read_listed_episodes(folder: Path, info: Info, cameras: Sequence[str]) -> list[EpisodeRow]:
    """All episodes of a data set of version 2, in order.

    Args:
        folder: The data set.
        info: Its description.
        cameras: Those of its cameras that are videos and are to be read.

    Raises:
        V2WError: The list contradicts itself or info.json, or a file of an episode is not there.
    """
    listed = _read(folder, EPISODES, _Episode)
    asked = f"read {folder / EPISODES}"
    listed.sort(key=lambda one: one.episode_index)
    found = [
        f"episode {one.episode_index} is the {number}th, counted from 0"
        for number, one in enumerate(listed)
        if one.episode_index != number
    ][:1]
    found += totals(len(listed), sum(one.length for one in listed), info)
    if found:
        raise V2WError(asked, found, TRY)
    rows, start = [], 0
    for number, one in enumerate(listed):
        numbers = {"episode_chunk": number // info.chunks_size, "episode_index": number}
        data = fill_template(info.data_path, "data", **numbers)
        videos = {
            camera: VideoPart(
                file_in(folder, fill_template(info.video_path or "", camera, **numbers)), 0.0, None
            )
            for camera in cameras
        }
        rows.append(EpisodeRow(number, one.length, one.length, start, file_in(folder, data), videos))
        start += one.length
    return rows


def listed_tasks(folder: Path) -> dict[int, str]:
    """The text of each task; none where there is no such list.

    Raises:
        V2WError: The list is not as LeRobot writes it.
    """
    if not os.path.lexists(folder / TASKS):
        return {}
    found = _read(folder, TASKS, _Task)
    texts = {one.task_index: one.task for one in found}
    if len(texts) < len(found):
        raise V2WError(f"read {folder / TASKS}", "a task_index is there twice")
    return texts


def _read(folder: Path, name: str, kind: type[Line]) -> list[Line]:
    found = []
    for number, content in enumerate(read_lines(file_in(folder, name), MAX_EPISODES), 1):
        try:
            found.append(kind.model_validate(content))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise V2WError(f"read {folder / name}", f"line {number}: {field}: {first['msg']}", TRY) from None
    return found

"""Lists in lines of JSON, pictures in parquet and choices: what the lerobot package wrote, spoiled, is refused."""

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.data.formats.test_lerobot_recorded import RECORDED, WRIST, opened
from tests.hostile.conftest import TRIED
from tests.hostile.datasets import Spoil
from tests.hostile.datasets.whole import INFO, at, column, content, info
from tests.hostile.test_datasets import assert_documented, timeout
from v2w_convert.errors import V2WError

LIST, TASKS = "meta/episodes.jsonl", "meta/tasks.jsonl"
ROWS = "data/chunk-000/episode_000001.parquet"
TOP_VIDEO = "videos/chunk-000/observation.images.top/episode_000001.mp4"


def line(file: str, **change: Any) -> Spoil:
    """Changes fields of the first line."""

    def changed(text: bytes) -> bytes:
        first, _, rest = text.partition(b"\n")
        return json.dumps(json.loads(first) | change).encode() + b"\n" + rest

    return content(file, changed)


def picture(make: Callable[[bytes], Any]) -> Spoil:
    """The second episode's first picture becomes what `make` makes of its bytes."""

    def replaced(values: list[Any]) -> list[Any]:
        return [{**values[0], "bytes": make(values[0]["bytes"])}, *values[1:]]

    return column(ROWS, WRIST, replaced)


def saved(mode: str, size: tuple[int, int], format_: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format_)
    return buffer.getvalue()


def huge(_: bytes) -> bytes:
    """A PNG of a few bytes that says that it has 10^10 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + head
        + struct.pack(">I", zlib.crc32(head))
        + saved("RGB", (4, 4), "PNG")[33:]
    )


LISTS: dict[str, Spoil] = {
    f"{file} {name}": spoil
    for file in (LIST, TASKS)
    for name, spoil in {
        "is empty": content(file, lambda _: b""),
        "is a list": content(file, lambda _: b"[]\n"),
        "is text": content(file, lambda _: b"no JSON\n"),
        "is cut": content(file, lambda text: text[:-4]),
        "is UTF-16": content(file, lambda text: text.decode().encode("utf-16")),
        "has NaN": content(file, lambda text: text.replace(b"{", b'{"unused": NaN, ', 1)),
        "has a line twice": content(file, lambda text: text + text),
        "has a line of 6 MB": content(file, lambda text: text.replace(b"{", b'{"unused": "' + b"x" * 6_000_000 + b'", ', 1)),
        "is nested deeply": content(file, lambda text: text.replace(b"{", b'{"unused": ' + b"[" * 50_000 + b"]" * 50_000 + b", ", 1)),
        "is a folder": lambda folder, file=file: ((folder / file).unlink(), (folder / file).mkdir()),
        "is a pipe": lambda folder, file=file: ((folder / file).unlink(), os.mkfifo(folder / file)),
        "is linked from outside": lambda folder, file=file: (
            (folder / file).rename(folder.parent / "outside"), (folder / file).symlink_to(folder.parent / "outside"),
        ),
    }.items()
}  # fmt: skip
del LISTS[f"{TASKS} is empty"]  # a data set without texts
CASES: dict[str, Spoil] = {
    **LISTS,
    f"{LIST} is not there": lambda folder: (folder / LIST).unlink(),
    **{f"{LIST} {name} {value!r}": line(LIST, **{name: value})
       for name in ("episode_index", "length") for value in (None, -1, 7, 1.5, "5", True, 2**70, [5])},
    **{f"{TASKS} {name} {value!r:.20}": line(TASKS, **{name: value})
       for name, value in (("task_index", -1), ("task_index", 1), ("task_index", "0"), ("task", None), ("task", 1), ("task", "x" * 20_000))},
    "no file of rows": lambda folder: (folder / ROWS).unlink(),
    "no file of rows by another size of chunks": info("chunks_size", to=1),
    "chunks of no size": info("chunks_size", to=0),
    "a path of version 3": info("data_path", to="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"),
    "a path outside": info("data_path", to="../{episode_chunk:03d}/{episode_index:06d}.parquet"),
    "rows of another episode": lambda folder: shutil.copy(folder / ROWS.replace("1.", "0."), folder / ROWS),
    "pictures as texts": column(ROWS, WRIST, lambda values: ["x"] * len(values)),
    "pictures as numbers": column(ROWS, WRIST, lambda values: [{"bytes": 1, "path": ""}] * len(values)),
    "pictures as lists": column(ROWS, WRIST, lambda values: [[v["bytes"]] for v in values]),
    "a picture that is null": column(ROWS, WRIST, at(3, None)),
    "a picture that is only a path": picture(lambda _: None),
    "a picture of no bytes": picture(lambda _: b""),
    "a picture of text": picture(lambda _: b"no picture"),
    "a picture cut": picture(lambda data: data[: len(data) // 2]),
    "a picture of zeros": picture(lambda data: data[:40] + bytes(len(data) - 40)),
    "a picture of 10^10 pixels": picture(huge),
    "a picture of another size": picture(lambda _: saved("RGB", (47, 32), "PNG")),
    "a picture of distances": picture(lambda _: saved("I;16", (48, 32), "PNG")),
    **{f"a picture as {kind}": picture(lambda _, kind=kind: saved("RGB", (48, 32), kind)) for kind in ("GIF", "BMP", "TIFF", "WEBP", "PPM")},
    "pictures said to be of another size": info("features", WRIST, "shape", to=[48, 32, 3]),
    "pictures said to see distances": info("features", WRIST, "info", to={"is_depth_map": True}),
    "a choice below 0": column(ROWS, "action.menu", at(2, -1), pa.int64()),
    "a choice of billions": column(ROWS, "action.menu", at(2, 10**9), pa.int64()),
}  # fmt: skip
"""All are to be refused."""
SETTINGS = {"camera": WRIST, "action_key": "action.menu"}


@pytest.mark.slow
def test_spoiled_lists_pictures_and_choices_are_refused(home: Path) -> None:
    found: dict[str, str] = {}
    for name, spoil in CASES.items():
        shutil.rmtree(home / "place", ignore_errors=True)
        folder = shutil.copytree(RECORDED / "v2", home / "place/set")
        spoil(folder)
        try:
            with timeout():
                opened(folder, **SETTINGS)
            found[name] = "accepted"
        except V2WError as error:
            if not str(error).isprintable() or len(str(error)) > 6000:
                found[name] = f"not one line: {error!s:.200}"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error!s:.200}"
    TRIED["refused as a data set"] += len(CASES)
    assert not found
    assert_documented("data sets: lists, pictures, choices", len(CASES))


def test_the_set_that_is_spoiled_is_read() -> None:
    data, episodes = opened(RECORDED / "v2", **SETTINGS)
    assert data.lengths == [5, 9, 2] and np.array_equal(episodes[1].actions.argmax(1), np.arange(5, 14) % 5)


def test_a_video_that_sees_distances_is_no_camera(home: Path) -> None:
    folder = shutil.copytree(RECORDED / "v2", home / "set")
    info("features", "observation.images.top", "info", to={"video.pix_fmt": "gray12le"})(folder)
    (folder / TOP_VIDEO).unlink()
    data, _ = opened(folder, **(SETTINGS | {"camera": None}))
    assert data.cameras == [WRIST] == [data.camera]
    assert (folder / INFO).is_file()

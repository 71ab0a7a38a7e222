"""Write the table of docs/reference/data-formats.md: `python -m tests.data.table`, seconds.

Each data set is written by the library that is named, and read by `open_dataset`. It needs h5py, minari and gymnasium.
"""

import re
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.data import written
from tests.data.coloured import episodes
from tests.data.recordings import folder_of_videos, pictures, table
from v2w_convert.cli import run
from v2w_convert.data import Dataset, DataSettings, open_dataset

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "data-formats.md"
RECORDED = Path(__file__).parent / "recorded"  # by lerobot itself; its README says what is in them
MARKS = re.compile(r"(<!-- table -->\n).*?(<!-- end -->)", re.DOTALL)
Frames = list[np.ndarray]


@dataclass
class Row:
    """A data set: what it is, who writes it, how it is read, and what it holds (frames, and action rows that lead somewhere)."""

    what: str
    by: str
    write: Callable[[Path], Path]
    flags: dict[str, Any]
    frames: Frames
    actions: Frames | None


COLOURED = [episode.frames for episode in episodes()]
DONE = [episode.actions[:-1] for episode in episodes()]


def by(*packages: str) -> str:
    return ", ".join(f"{name} {version(name)}" for name in packages)


def pictures_and_arrays(folder: Path) -> Path:
    folder.mkdir()
    for number, episode in enumerate(episodes()):
        pictures(folder / f"walk_{number}", episode.frames)
        table(folder / f"walk_{number}.npz", episode.actions)
    return folder


def one_table(folder: Path) -> Path:
    folder_of_videos(folder)
    rows = ["video,x,y"]
    for number, episode in zip((2, 10, 11), episodes(), strict=True):
        (folder / f"clip_{number}.csv").unlink()
        rows += [f"clip_{number}.mp4,{x:g},{y:g}" for x, y in episode.actions]
    (folder / "actions.csv").write_text("\n".join(rows))
    return folder


def environment(folder: Path) -> Path:
    assert (
        run(
            ["record", "tests.recording.worlds:Dot-v0", "-o", str(folder), "--episodes", "2", "--length", "8"]
        )
        == 0
    )
    return folder


def recorded(name: str) -> Callable[[Path], Path]:
    return lambda folder: RECORDED / name


def _csgo_frames() -> Frames:
    made = []
    for number in (2, 10):
        frames = np.zeros((12, 6, 8, 3), np.uint8)
        frames[..., 2], frames[..., 0] = number, np.arange(12)[:, None, None]
        made.append(frames)
    return made


def _lerobot(channel: int, height: int, width: int) -> Frames:
    frames = np.full((16, height, width, 3), 20)
    frames[..., channel] = 40 + 10 * np.arange(16)[:, None, None]
    return [frames[:5], frames[5:14], frames[14:]]


def _whole(values: np.ndarray) -> Frames:
    return [values[:4], values[5:13], values[14:15]]


K = np.arange(16)
MOTORS, MOVE = _whole(np.stack([K / 2, -K], 1)), _whole(np.eye(3)[K % 3])
RLDS_FRAMES = _lerobot(0, 16, 24)
RLDS = RECORDED / "rlds" / "rlds_walks-train.tfrecord-00000-of-00002"
MINARI = [np.eye(3)[one] for one in written.CHOICES]
TOP, WRIST = "observation.images.top", "observation.images.wrist"


def rows() -> list[Row]:
    h5, files = by("h5py"), by("av")
    key_map = "frames=observations/images/top,actions=action"
    return [
        Row("LeRobot v3, a video", "lerobot 0.4.4", recorded("v3"), {"camera": TOP}, _lerobot(0, 64, 96), MOTORS),
        Row("LeRobot v3, pictures in the rows, choices", "lerobot 0.4.4", recorded("v3"), {"camera": WRIST, "action_key": "action.move"}, _lerobot(1, 32, 48), MOVE),
        Row("LeRobot v2.1, a video", "lerobot 0.3.3", recorded("v2"), {"camera": TOP}, _lerobot(0, 64, 96), MOTORS),
        Row("videos, a CSV file each", files, folder_of_videos, {}, COLOURED, DONE),
        Row("videos, one CSV file", files, one_table, {}, COLOURED, DONE),
        Row("videos, JSON Lines", files, lambda folder: folder_of_videos(folder, ".jsonl"), {}, COLOURED, DONE),
        Row("PNG files, npz", by("pillow", "numpy"), pictures_and_arrays, {"fps": 9}, COLOURED, DONE),
        Row("HDF5 of CS:GO", h5, written.csgo, {}, _csgo_frames(), None),
        Row("HDF5 of robomimic", h5, lambda folder: written.robomimic(folder.with_suffix(".hdf5")), {"camera": "agentview_image"}, COLOURED, DONE),
        Row("HDF5 of ALOHA", h5, written.aloha, {"key_map": key_map, "fps": 50}, COLOURED, DONE),
        Row("Minari", by("minari"), lambda folder: written.minari(folder, False), {"fps": 10}, written.GREYS, MINARI),
        Row("Minari, JPEG", by("minari"), lambda folder: written.minari(folder, True), {"fps": 10}, written.GREYS, MINARI),
        Row("RLDS", "tensorflow_datasets 4.9.10", lambda _: RLDS, {"fps": 10, "camera": "observation/image"}, RLDS_FRAMES, MOTORS),
        Row("an environment, `v2w record`", by("gymnasium"), environment, {}, [], None),
    ]  # fmt: skip


def line(row: Row, place: Path) -> str:
    """The row as Markdown, or AssertionError: an action is another one."""
    data = open_dataset(row.write(place), DataSettings.model_validate(row.flags))
    found = list(data.episodes())
    apart = "–"
    if row.frames:
        assert [len(one.frames) for one in found] == [len(frames) for frames in row.frames], row.what
        apart = str(
            max(int(np.abs(a.frames - b.astype(int)).max()) for a, b in zip(found, row.frames, strict=True))
        )
    if row.actions is not None:
        for one, wanted in zip(found, row.actions, strict=True):
            assert np.array_equal(one.actions[: len(wanted)], wanted.astype(np.float32)), row.what
    flags = " ".join(
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in row.flags.items()
    )
    cells = [row.what, row.by, f"`{flags}`" if flags else "", said(data), apart]
    return f"| {' | '.join(cells)} |"


def said(data: Dataset) -> str:
    kinds = ", ".join(f"{part.kind.replace('_', '-')} {part.size}" for part in data.action_space.parts)
    return f"{len(data)} episodes, {sum(data.lengths)} frames, {data.fps:g} a second; {kinds}"


def main() -> None:
    head = ["| data | written by | flags | understood as | frames differ by |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as scratch:
        lines = head + [line(row, Path(scratch, f"set{number}")) for number, row in enumerate(rows())]
    text, count = MARKS.subn(
        lambda found: found[1] + "\n" + "\n".join(lines) + "\n\n" + found[2], PAGE.read_text()
    )
    assert count == 1
    PAGE.write_text(text)


if __name__ == "__main__":
    main()

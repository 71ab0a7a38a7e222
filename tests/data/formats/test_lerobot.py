import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.coloured import episodes
from v2w_convert.data import DataSettings, Episode, open_dataset, write_dataset
from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.errors import V2WError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(episodes(), tmp_path / "set", fps=9, action_names=["x", "y"], task="test", robot="none")
    return tmp_path / "set"


def read(folder: Path, camera: str | None = None) -> list[Episode]:
    return list(open_dataset(folder, DataSettings(camera=camera)).episodes())


def test_what_is_written_is_read(folder: Path) -> None:
    found = read(folder)
    assert [len(e) for e in found] == [5, 9, 2]
    for before, after in zip(episodes(), found, strict=True):
        assert np.array_equal(before.actions, after.actions)
        # Lossy, but flat colours 15 apart cannot be taken for one another.
        assert np.abs(before.frames.astype(int) - after.frames).max() <= 4


def test_the_description(folder: Path) -> None:
    found = open_dataset(folder)
    assert (found.name, found.fps, found.lengths, len(found)) == ("set", 9.0, [5, 9, 2], 3)
    assert (found.action_dim, found.action_names) == (2, ["x", "y"])
    assert found.cameras == ["observation.image"] and found.camera == "observation.image"
    assert np.array_equal(found.first().frames, read(folder)[0].frames)


@pytest.mark.parametrize("names", [None, {"motors": ["x"]}, ["only one"], {"motors": "x"}])
def test_actions_without_a_name_each_are_numbered(folder: Path, names: object) -> None:
    file = folder / "meta/info.json"
    info = json.loads(file.read_text())
    info["features"]["action"]["names"] = names
    file.write_text(json.dumps(info))
    assert open_dataset(folder).action_names == ["action_0", "action_1"]


def two_cameras(folder: Path) -> Path:
    """The same data set with a second camera that shows the same."""
    file = folder / "meta/info.json"
    info = json.loads(file.read_text())
    info["features"]["left"] = info["features"]["observation.image"]
    file.write_text(json.dumps(info))
    shutil.copytree(folder / "videos/observation.image", folder / "videos/left")
    file = folder / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    for name in table.column_names:
        if "observation.image" in name:
            table = table.append_column(name.replace("observation.image", "left"), table[name])
    pq.write_table(table, file)
    return folder


def test_one_of_several_cameras_has_to_be_named(folder: Path) -> None:
    with pytest.raises(V2WError, match=r"several cameras: observation.image, left \(try: .*--camera"):
        open_dataset(two_cameras(folder))
    assert open_dataset(folder, DataSettings(camera="left")).camera == "left"


def test_the_fingerprint_is_of_the_content_and_of_the_camera(folder: Path, tmp_path: Path) -> None:
    def fingerprint(data: Path, camera: str | None = None) -> str:
        return open_dataset(data, DataSettings(camera=camera)).fingerprint()

    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    (copied / "README.md").write_text("no part of the data")
    assert fingerprint(copied) == fingerprint(folder)
    files = [path for path in copied.glob("*/**/*") if path.is_file()]
    assert len(files) == 6
    opened = open_dataset(copied)
    for file in files:
        before = opened.fingerprint()
        file.write_bytes(file.read_bytes() + b" ")
        assert opened.fingerprint() != before, file
    two_cameras(folder)
    assert fingerprint(folder, "left") != fingerprint(folder, "observation.image")


def test_a_missing_list_of_episodes_is_refused(folder: Path) -> None:
    file = folder / "meta/episodes/chunk-000/file-000.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises(V2WError, match="it has 4 bytes"):
        open_dataset(folder)
    shutil.rmtree(folder / "meta/episodes")
    with pytest.raises(V2WError, match="there is no parquet file in meta/episodes"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"total_episodes": 0}, "no episode"),
        ({"codebase_version": "v1.6"}, "its layout is v1.6, not v2 or v3"),
        ({"features": {}}, "features: it has no camera"),
        ({"features": []}, "features: Input should be a valid dictionary"),
        ({"fps": None}, "fps: Input should be a valid number"),
        ({"data_path": "../../{chunk_index}{file_index}.parquet"}, "data_path: .*points outside"),
    ],
)
def test_a_wrong_description(folder: Path, change: dict[str, object], expected: str) -> None:
    file = folder / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(V2WError, match=expected):
        read(folder)


def test_missing_parts(folder: Path) -> None:
    shutil.rmtree(folder / "videos")
    with pytest.raises(V2WError, match=r"file-000.mp4: no such file"):
        read(folder)
    with pytest.raises(V2WError, match="no such folder"):
        read(folder / "nowhere")
    with pytest.raises(V2WError, match="no camera 'left'"):
        read(folder, camera="left")


@pytest.mark.parametrize("pattern", ["*.mp4", "data/**/*.parquet", "meta/episodes/**/*.parquet"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_damaged_files(folder: Path, pattern: str, keep: float) -> None:
    (file,) = folder.rglob(pattern) if "/" not in pattern else folder.glob(pattern)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(V2WError, match="file-000" if "episodes" not in pattern else "episodes"):
        read(folder)


def test_nothing_is_overwritten(folder: Path) -> None:
    with pytest.raises(V2WError, match="not empty"):
        write_dataset(episodes(), folder, fps=9, action_names=["x", "y"], task="test", robot="none")


def test_episodes_of_another_size_are_refused(tmp_path: Path) -> None:
    first = episodes()[0]
    small = Episode(first.frames[:, :8], first.actions)
    with pytest.raises(V2WError, match="episode 1 has frames of 8 x 16 and actions of 2, the first 16 x 16"):
        write_dataset([first, small], tmp_path / "set", fps=9, action_names=["x", "y"])
    with pytest.raises(V2WError, match="3 action names for actions of 2 numbers"):
        write_dataset([first], tmp_path / "names", fps=9, action_names=["x", "y", "z"])


def test_tasks_are_read_in_the_order_in_which_frames_have_them(folder: Path) -> None:
    assert open_dataset(folder).tasks == [("test",)] * 3
    assert [episode.tasks for episode in read(folder)] == [("test",)] * 3
    file = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    numbers = pa.array([2] * 3 + [0] * 2 + [1] * 9 + [0] * 2)  # of 5, 9 and 2 frames
    table = table.set_column(table.column_names.index("task_index"), "task_index", numbers)
    pq.write_table(table, file)
    tasks = {"task_index": [0, 1, 2], "task": ["run", " ", "wait"]}
    pq.write_table(pa.table(tasks), folder / "meta/tasks.parquet")
    expected = [("wait", "run"), (), ("run",)]
    assert open_dataset(folder).tasks == expected
    assert [episode.tasks for episode in read(folder)] == expected

    pq.write_table(pa.table({"task_index": [0], "task": ["run"]}), folder / "meta/tasks.parquet")
    with pytest.raises(V2WError, match=r"a frame has task 2, which meta/tasks.parquet does not have"):
        _ = open_dataset(folder).tasks
    pq.write_table(pa.table({"task_index": [0, 1, 2], "task": [1, 2, 3]}), folder / "meta/tasks.parquet")
    with pytest.raises(V2WError, match="column 'task' is of type int64, not text"):
        read(folder)
    (folder / "meta/tasks.parquet").unlink()
    assert open_dataset(folder).tasks == [()] * 3
    assert read(folder)[0].tasks == ()


def test_choices_and_keys_are_stored_as_such(tmp_path: Path) -> None:
    parts = (
        ActionPart("action.move", "discrete", 3, ("left", "stay", "right")),
        ActionPart("action.keys", "multi_binary", 2, ("jump", "fire")),
        ActionPart("action.speed", "continuous", 1, ("metres per second",)),
        ActionPart("action.fire", "multi_binary", 1, ("trigger",)),
    )
    random = np.random.default_rng(0)
    for number, chosen in enumerate([*((part,) for part in parts), parts]):
        space = ActionSpace(chosen)
        recorded = np.concatenate(
            [random.integers(0, 3 if part.kind == "discrete" else 2, (5, part.columns)) for part in chosen], 1
        )
        actions = space.encode(recorded, "test")
        write_dataset(
            [Episode(episodes()[0].frames, actions)], tmp_path / str(number), fps=9, action_names=space
        )
        found = open_dataset(tmp_path / str(number))
        assert [(p.kind, p.size, p.labels) for p in found.action_space.parts] == [
            (p.kind, p.size, p.labels) for p in chosen
        ]
        assert np.array_equal(found.first().actions, actions)


@pytest.mark.parametrize(
    ("kind", "row"), [("discrete", [1, 1]), ("discrete", [0, 0]), ("multi_binary", [0.5, 0])]
)
def test_choices_and_keys_that_are_none(kind: Any, row: list[float], tmp_path: Path) -> None:
    space = ActionSpace((ActionPart("action", kind, 2, ("a", "b")),))
    actions = np.array([[0, 1], row, [0, 1], [0, 1], [0, 1]], np.float32)
    with pytest.raises(V2WError, match="episode 0: row 1 of 'action'"):
        write_dataset([Episode(episodes()[0].frames, actions)], tmp_path / "set", fps=9, action_names=space)


def test_odd_sides_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    episode = Episode(np.zeros((2, 15, 16, 3), np.uint8), np.zeros((2, 1), np.float32))
    with pytest.raises(V2WError, match="15 x 16"):
        write_dataset([episode], tmp_path / "set", fps=9, action_names=["x"])
    assert not (tmp_path / "set").exists()

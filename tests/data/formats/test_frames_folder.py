from pathlib import Path

import numpy as np
import pytest

from tests.data.coloured import episodes
from tests.data.recordings import NAMES, alike, folder_of_videos, pictures, table, video
from v2w_convert.data import DataSettings, open_dataset
from v2w_convert.data.view import decided
from v2w_convert.errors import V2WError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of_videos(tmp_path / "set")


def test_videos_with_tables(folder: Path) -> None:
    data = open_dataset(folder)
    assert (data.name, data.fps, data.lengths, data.action_names) == ("set", 9.0, [5, 9, 2], NAMES)
    assert [part.kind for part in data.action_space.parts] == ["continuous"]
    assert alike(list(data.episodes()))


def test_videos_as_cameras_name_them(folder: Path) -> None:
    for file in folder.glob("*.mp4"):
        file.rename(file.with_suffix(".MP4"))
    data = open_dataset(folder)
    assert alike(list(data.episodes())) and not data.faults


@pytest.mark.parametrize("suffix", [".jsonl", ".npz"])
def test_other_tables(suffix: str, tmp_path: Path) -> None:
    data = open_dataset(folder_of_videos(tmp_path / "set", suffix))
    assert data.action_names == ["action_0", "action_1"]
    assert alike(list(data.episodes()))


def test_pictures_need_a_rate(tmp_path: Path) -> None:
    for number, episode in zip((2, 10, 11), episodes(), strict=True):
        pictures(tmp_path / f"walk {number}", episode.frames)
        table(tmp_path / f"walk {number}" / "actions.csv", episode.actions)
    with pytest.raises(V2WError, match=r"a second \(try: --fps\)"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, DataSettings(fps=7))
    assert data.fps == 7 and alike(list(data.episodes()), tolerance=0)


def one_table(folder: Path, *lines: str) -> Path:
    for file in folder.glob("*.csv"):
        file.unlink()
    (folder / "actions.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_one_table_for_all(folder: Path) -> None:
    rows = [
        f"clip_{number}{suffix};{x:g};{y:g};pick {number}"
        for number, suffix, episode in zip((2, 10, 11), ("", ".mp4", ""), episodes(), strict=True)
        for x, y in episode.actions
    ]
    data = open_dataset(one_table(folder, "video;x;y;task", *rows))
    assert alike(list(data.episodes()))
    assert data.tasks == [("pick 2",), ("pick 10",), ("pick 11",)]


def test_the_last_frame_may_have_no_action(folder: Path) -> None:
    table(folder / "clip_2.csv", episodes()[0].actions[:-1])
    actions = open_dataset(folder).first().actions
    assert np.array_equal(actions[:-1], episodes()[0].actions[:-1])
    assert np.array_equal(actions[-1], actions[-2])


def test_columns_are_chosen(folder: Path) -> None:
    assert open_dataset(folder, DataSettings(action_key="y,x")).action_names == ["y", "x"]
    with pytest.raises(V2WError, match=r"no column 'z' \(try: --action-key frame_index,x,y\)"):
        open_dataset(folder, DataSettings(action_key="x,z"))


def test_whole_numbers_are_choices_or_amounts_as_the_user_says(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", episodes()[0].frames)
    (tmp_path / "a.csv").write_text("key\n0\n2\n1\n0\n2\n")
    with pytest.raises(V2WError, match=r"choices, or amounts\? \(try: --action-kind discrete, or continuous"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, DataSettings(action_kind="discrete"))
    assert data.action_names == ["key=0", "key=1", "key=2"]
    assert np.array_equal(data.first().actions, np.eye(3)[[0, 2, 1, 0, 2]])
    amounts = open_dataset(tmp_path, DataSettings(action_kind="continuous"))
    assert np.array_equal(amounts.first().actions, [[0], [2], [1], [0], [2]])


def test_choices_that_one_data_set_lacks_are_choices_all_the_same(tmp_path: Path) -> None:
    for name, keys in {"train": "0 2 1 0 2", "test": "0 1 1 0 0", "other": "0 3 1 0 0"}.items():
        (tmp_path / name).mkdir()
        video(tmp_path / name / "a.mp4", episodes()[0].frames)
        (tmp_path / name / "a.csv").write_text("key\n" + keys.replace(" ", "\n") + "\n")
    settings = DataSettings(action_kind="discrete")
    train = open_dataset(tmp_path / "train", settings)
    view = decided(train, settings, DataSettings(), train.first().frames[0])
    assert view.choices == "3"
    test = open_dataset(tmp_path / "test", recorded=view)
    assert test.action_names == train.action_names == ["key=0", "key=1", "key=2"]
    assert np.array_equal(test.first().actions, np.eye(3)[[0, 1, 1, 0, 0]])
    strided = open_dataset(tmp_path / "test", DataSettings(stride=2), view)
    assert len(strided.action_names) == 6
    with pytest.raises(V2WError, match="row 1 of 'key': 3, not a choice from 0 to 2"):
        open_dataset(tmp_path / "other", recorded=view)
    with pytest.raises(V2WError, match=r"--choices 3,2, and it has 3 \(try: --choices 3\)"):
        open_dataset(tmp_path / "test", settings.over(DataSettings(choices="3,2"), {"choices"}))
    with pytest.raises(V2WError, match="--choices 3, and it has no discrete numbers"):
        open_dataset(tmp_path / "test", DataSettings(action_kind="continuous", choices="3"))


def test_the_fingerprint_is_of_the_content(folder: Path) -> None:
    data = open_dataset(folder)
    seen = {data.fingerprint(), open_dataset(folder, DataSettings(action_key="y,x")).fingerprint()}
    for name in ("clip_10.mp4", "clip_11.csv"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        seen.add(data.fingerprint())
        (folder / name).write_bytes(content)
    assert len(seen) == 4 and data.fingerprint() in seen


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x,y\n1,2\n", r"clip_2.mp4 has 5 frames, clip_2.csv 1 rows"),
        ("x,y\n1,2\n3\n", r"clip_2.csv: line 3: 1 cells, not 2"),
        ("x,y\n1,2\n\n3,4\n", "line 3 is empty"),
        ("x,x\n1,2\n", "column 'x' is there twice"),
        ("x,y\n" + "1,2\n" * 4 + "1,left\n", "column 'y', line 6: 'left', not a number"),
        ("x,y\n" + "1,2\n" * 4 + "1,\n", "column 'y', line 6: '', not a number"),
        ("x,y\n" + "1,2\n" * 4 + "nan,2\n", "'x', line 6: nan, not finite"),
        ("x,y\n" + "1,2\n" * 4 + "1e39,2\n", r"'x', line 6: 1e\+39, not finite in float32"),
        ("frame,x\n0,2\n1,2\n3,2\n2,2\n4,2\n", "column 'frame', line 4: 3 in row 2"),
        ("x,y\n", "it has no rows"),
        ("", "it has no rows"),
        ("frame,task\n0,a\n", "none of its columns is an action"),
    ],
)
def test_tables_that_do_not_fit(text: str, found: str, folder: Path) -> None:
    (folder / "clip_2.csv").write_text(text)
    with pytest.raises(V2WError, match=found):
        open_dataset(folder)


def test_faults_of_several_recordings_are_told_together(folder: Path) -> None:
    (folder / "clip_2.csv").unlink()
    table(folder / "clip_10.csv", episodes()[0].actions)
    with pytest.raises(V2WError) as refused:
        open_dataset(folder)
    assert "clip_2.mp4 has no table: no clip_2.csv" in str(refused.value)
    assert "clip_10.mp4 has 9 frames, clip_10.csv 5 rows" in str(refused.value)


def test_recordings_of_other_rates_sizes_or_columns(folder: Path) -> None:
    wide = np.zeros((5, 16, 32, 3), np.uint8)
    video(folder / "clip_2.mp4", wide)
    with pytest.raises(V2WError, match=r"several sizes: clip_2.mp4 16 x 32, clip_10.mp4 16 x 16"):
        open_dataset(folder)
    video(folder / "clip_2.mp4", episodes()[0].frames, fps=10)
    with pytest.raises(V2WError, match=r"clip_2.mp4 10.0"):
        open_dataset(folder)
    video(folder / "clip_2.mp4", episodes()[0].frames)
    table(folder / "clip_2.csv", episodes()[0].actions, ["x", "z"])
    with pytest.raises(V2WError, match=r"clip_10.csv has the actions x, y, clip_2.csv has x, z"):
        open_dataset(folder)

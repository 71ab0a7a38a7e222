"""`v2w data`."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.cli.commands import printed, refused
from tests.data.formats.test_lerobot_recorded import RECORDED
from tests.data.recordings import folder_of_videos
from tests.docs.pages import example
from v2w_convert.data import Episode, formats, write_dataset


def test_what_was_understood(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    found = printed(capsys, "data", data, "-o", sheet, "--episodes", 2, "--columns", 4)
    assert (found["format"], found["episodes"], found["frames"], found["fps"]) == ("LeRobot", 3, 72, 9)
    assert (found["shortest"], found["median"], found["longest"], found["seconds"]) == (24, 24, 24, 8)
    assert (found["height"], found["width"], found["decoded"]) == (16, 16, 2)
    assert found["tasks"] == ["test"] and not found["faults"]
    assert [each["name"] for each in found["actions"]] == ["a", "b", "c"]
    assert all((each["min"], each["max"], each["kind"]) == (0, 1, "continuous") for each in found["actions"])
    assert found["notes"] == ["frames of 2 of 3 episodes were decoded; --decode all looks at every one"]
    drawn = np.asarray(Image.open(sheet))
    assert drawn.shape[1] == 4 * 164 - 4
    assert (drawn == (40, 90, 180)).all(-1).sum() > 100  # bars
    assert "the file exists" in refused(capsys, "data", data, "-o", sheet)
    assert "'.jpg' (try: .png)" in refused(capsys, "data", data, "-o", tmp_path / "sheet.jpg")

    viewed = printed(capsys, "data", data, "--stride", 4, "--height", 8, "--width", 12, "--decode", "all")
    assert (viewed["fps"], viewed["frames"], viewed["height"], viewed["width"]) == (2.25, 18, 8, 12)
    assert len(viewed["actions"]) == 12 and viewed["decoded"] == 3 and not viewed["notes"]
    assert viewed["sheet"] is None


def test_numbers_that_never_change_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actions = np.stack([np.arange(4), np.full(4, 0.1)], 1).astype(np.float32)
    episode = Episode(np.zeros((4, 16, 16, 3), np.uint8), actions)
    write_dataset([episode], tmp_path / "data", fps=5, action_names=["x", "still"])
    found = printed(capsys, "data", tmp_path / "data", "-o", tmp_path / "sheet.png")
    assert found["notes"] == ["1 of the 2 numbers of an action never changes: 'still'"]
    assert found["actions"][0]["max"] == 2  # the last action leads nowhere
    assert found["actions"][1]["std"] == 0


def test_faults_are_told_and_end_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a format that finds them late: the one that the documentation shows how to add."""
    monkeypatch.setattr(formats, "FORMATS", (example("data_format").NpzFormat(),))
    actions = np.arange(8, dtype=np.float32).reshape(4, 2)
    for name, size in (("a", 16), ("b", 8)):
        frames = np.zeros((4, size, size, 3), np.uint8)
        np.savez(tmp_path / f"{name}.npz", frames=frames, actions=actions, fps=np.array(5.0))
    found = printed(capsys, "data", tmp_path, "-o", tmp_path / "sheet.png", code=1)
    assert found["faults"] == [
        "episode 1 has frames of 8 x 8, those before it of 16 x 16: give --height and --width"
    ]
    assert found["sheet"] == str(tmp_path / "sheet.png") and found["actions"][0]["max"] == 4
    assert not printed(capsys, "data", tmp_path, "--height", 8, "--width", 8)["faults"]

    actions[2, 1] = np.nan
    np.savez(
        tmp_path / "b.npz", frames=np.zeros((4, 16, 16, 3), np.uint8), actions=actions, fps=np.array(5.0)
    )
    found = printed(capsys, "data", tmp_path, code=1)
    [fault] = found["faults"]
    assert "row 2 is NaN" in fault
    assert found["actions"][0]["mean"] is None and found["decoded"] == 1


def test_what_is_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in refused(capsys, "data", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty: it is empty (try: LeRobot: " in refused(capsys, "data", tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("none\n")
    said = refused(capsys, "data", tmp_path)
    assert "its format is not known; it holds empty, notes.txt (try: LeRobot: " in said


def test_a_data_set_one_folder_up_or_down_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("test", "train"):
        folder_of_videos(tmp_path / part)
    (tmp_path / "notes").mkdir()
    said = refused(capsys, "data", tmp_path)
    assert said.endswith(f"it holds notes, test, train (try: {tmp_path}/test, or {tmp_path}/train)")
    said = refused(capsys, "data", tmp_path / "train" / "clip_2.mp4")
    assert said.endswith(f"a file of no known format (try: {tmp_path}/train)")


def test_files_that_belong_to_no_recording_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of_videos(tmp_path / "data")
    (folder / "clip_2.mp4").rename(folder / "clip_2.wmv")
    (folder / ".hidden").touch()
    found = printed(capsys, "data", folder)
    assert found["episodes"] == 2
    assert found["notes"] == ["clip_2.csv, clip_2.wmv are not read: they belong to no recording"]
    for name in (b"a", b"b\xff\x1b[2J", b"c"):
        (folder / os.fsdecode(name)).touch()
    [note] = printed(capsys, "data", folder)["notes"]
    assert note.startswith("a, b") and note.endswith(
        ", c, clip_2.csv, clip_2.wmv are not read: they belong to no recording"
    )
    assert note.isprintable() and note.isascii()


def test_cameras_action_keys_and_state_by_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a data set that the lerobot package wrote."""
    folder, top, wrist = RECORDED / "v3", "observation.images.top", "observation.images.wrist"
    assert f"several cameras: {top}, {wrist}" in refused(capsys, "data", folder)
    flags = ["--camera", f"{top},{wrist}", "--action-key", "action.move,action.keys", "--state"]
    found = printed(capsys, "data", folder, *flags)
    assert (found["height"], found["width"], found["camera"]) == (64, 192, f"{top},{wrist}")
    kinds = [each["kind"] for each in found["actions"]]
    assert kinds == ["discrete"] * 3 + ["multi_binary"] * 3 + ["continuous"] * 3
    assert found["actions"][1]["name"] == "action.move=left" and found["actions"][-1]["name"] == "state.c"
    unclear = refused(capsys, "data", folder, "--camera", top, "--action-key", "action.steps")
    assert "--action-kind continuous, discrete or multi_binary" in unclear


def test_episodes_that_are_cut_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    times = table["timestamp"].to_numpy().copy()
    times[46:48] += 0.2  # the last two frames of the second episode, at 9 a second
    place = table.schema.get_field_index("timestamp")
    pq.write_table(table.set_column(place, "timestamp", pa.array(times, pa.float32())), file)
    found = printed(capsys, "data", data)
    assert (found["episodes"], found["frames"], found["shortest"]) == (3, 70, 22)
    assert any("episode 1: 22 of 24 frames used" in note for note in found["notes"])

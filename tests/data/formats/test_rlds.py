"""RLDS data sets: one that tensorflow_datasets itself wrote, and others by its rules."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.recordings import alike
from tests.data.rlds import CAMERA, NAME, STEP, example, features, image, lists, png, tensor, write
from v2w_convert.data import DataSettings, open_dataset
from v2w_convert.errors import V2WError

RECORDED = Path(__file__).parents[1] / "recorded/rlds"
FPS = DataSettings(fps=9)


def test_an_episode_is_a_record(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    data = open_dataset(folder, FPS)
    assert (data.format, data.fps, data.lengths, data.cameras) == ("RLDS", 9.0, [5, 9, 2], [CAMERA])
    assert data.tasks == [("walk",)] * 3
    found = list(data.episodes())
    assert alike(found, tolerance=0)
    assert [episode.tasks for episode in found] == data.tasks
    with pytest.raises(V2WError, match=r"does not say how many frames there are a second \(try: --fps"):
        open_dataset(folder)


def test_what_tensorflow_datasets_wrote() -> None:
    settings = DataSettings(fps=10, camera="observation/image")
    with pytest.raises(V2WError, match=r"several splits: train, val \(try: .*rlds_walks-"):
        open_dataset(RECORDED, settings)
    file = RECORDED / "rlds_walks-train.tfrecord-00000-of-00002"
    with pytest.raises(V2WError, match="several cameras: observation/image, observation/wrist"):
        open_dataset(file)
    train = open_dataset(file, settings)
    assert sorted(train.lengths) == [2, 5, 9]
    assert train.action_names == ["action_0", "action_1"]
    for episode in train.episodes():
        k = episode.actions[:, 0] * 2  # tests/data/recorded/README.md
        assert np.array_equal(episode.actions[:, 1], -k)
        assert np.array_equal(episode.frames[:, 3, 5, 0], 40 + 10 * k)
        assert episode.tasks == (f"walk from {k[0]:.0f}",)
    wrist = settings.model_copy(update={"camera": "observation/wrist", "action_key": "move,keys,action"})
    found = open_dataset(RECORDED / "rlds_walks-val.tfrecord-00001-of-00002", wrist)
    kinds = [(part.kind, part.size) for part in found.action_space.parts]
    assert kinds == [("discrete", 3), ("multi_binary", 3), ("continuous", 2)]
    assert found.lengths == [2, 2]
    episode, k = found.first(), np.arange(2)
    assert np.abs(episode.frames[:, 0, 0, 1] - (40.0 + 10 * k)).max() <= 2  # JPEG
    assert np.array_equal(episode.actions[:, :3].argmax(1), k % 3)
    assert np.array_equal(episode.actions[:, 3:6], k[:, None] >> np.arange(3) & 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"action_key": "arm"}, r"no numbers 'arm' \(try: --action-key, one or several of: action, menu, go/x, go/y"),
        ({"action_key": "menu"}, r"'menu' is 1 whole numbers \(int32\), which may be amounts, choices or keys"),
        ({"action_key": "action,action"}, "the same numbers twice"),
        ({"camera": "observation/depth"}, "no camera 'observation/depth'"),
        ({"action_key": "menu", "action_kind": "discrete"}, {"menu": ("discrete", 5)}),
        ({"action_key": "menu", "action_kind": "discrete", "choices": "7"}, {"menu": ("discrete", 7)}),
        ({"action_key": "menu", "action_kind": "continuous"}, {"menu": ("continuous", 1)}),
        ({"action_key": "go"}, {"go/x": ("continuous", 1), "go/y": ("continuous", 2)}),
        ({"action_key": "go/y,action"}, {"go/y": ("continuous", 2), "action": ("continuous", 2)}),
    ],
)  # fmt: skip
def test_actions_are_chosen(settings: dict[str, Any], said: Any, tmp_path: Path) -> None:
    observation = {"image": image(-1, -1, 3), "depth": image(16, 16, 1, dtype="uint16")}
    step = STEP | {
        "observation": {"featuresDict": {"features": observation}},
        "menu": tensor("int32"),
        "go": {"featuresDict": {"features": {"x": tensor("float64"), "y": tensor("float32", 1, 2)}}},
        "ragged": {"sequence": {"feature": tensor("float32"), "length": "-1"}},
    }
    made = []
    for each in lists():
        t = len(each["steps/action"])
        more = {"menu": np.arange(t) % 5, "go/x": np.ones(t, "f4"), "go/y": np.arange(2 * t, dtype="f4")}
        made.append(example(each | {f"steps/{name}": values for name, values in more.items()}))
    folder, wanted = write(tmp_path / "set", made, step), DataSettings(fps=9, **settings)
    if isinstance(said, str):
        with pytest.raises(V2WError, match=said):
            open_dataset(folder, wanted)
        return
    data = open_dataset(folder, wanted)
    assert {part.name: (part.kind, part.size) for part in data.action_space.parts} == said
    assert all(len(episode.actions[0]) == data.action_dim for episode in data.episodes())


def test_frames_of_several_sizes_need_one(tmp_path: Path) -> None:
    made = lists()
    made[1]["steps/observation/image"] = [png(np.zeros((8, 16, 3), np.uint8))] * 9
    folder = write(tmp_path / "set", list(map(example, made)))
    with pytest.raises(V2WError, match=r"several sizes: 8 x 16, 16 x 16 \(try: --height and --width"):
        open_dataset(folder, FPS)
    found = open_dataset(folder, DataSettings(fps=9, height=8, width=8)).episodes()
    assert {episode.frames.shape[1:] for episode in found} == {(8, 8, 3)}


def test_the_fingerprint_is_that_of_files_and_reading(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    shutil.copytree(folder, tmp_path / "b")
    first = open_dataset(folder, FPS).fingerprint()
    assert open_dataset(tmp_path / "b", FPS).fingerprint() == first
    with (tmp_path / "b" / NAME.format(1, 2)).open("ab") as stream:
        stream.write((folder / NAME.format(1, 2)).read_bytes())
    with pytest.raises(V2WError, match=r"dataset_info.json: 3 episodes, and the files have 4"):
        open_dataset(tmp_path / "b", FPS)
    (tmp_path / "b/dataset_info.json").write_text("{}")
    assert open_dataset(tmp_path / "b", FPS).fingerprint() != first


def test_sets_without_steps_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    for said in (
        {},
        {"featuresDict": {"features": {"image": image(2, 2, 3)}}},
        {"type": "…", "content": "{}"},
    ):
        (folder / "features.json").write_text(json.dumps(said))
        with pytest.raises(V2WError, match=r"read .*features.json: "):
            open_dataset(folder, FPS)
    (folder / "features.json").write_text(json.dumps(features({"action": tensor("float32", 2)})))
    with pytest.raises(V2WError, match="it has no camera"):
        open_dataset(folder, FPS)

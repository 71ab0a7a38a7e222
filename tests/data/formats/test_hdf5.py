import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.coloured import episodes
from tests.data.recordings import alike
from v2w_convert.data import DataSettings, open_dataset
from v2w_convert.errors import V2WError

h5py = pytest.importorskip("h5py")


def robomimic(file: Path, **env: Any) -> Path:
    """As robomimic's dataset_states_to_obs.py writes it: demo_10 after demo_2."""
    with h5py.File(file, "w") as root:
        data = root.create_group("data")
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20, **env}}
        )
        for number, episode in zip((10, 2, 0), reversed(episodes()), strict=True):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(episode)
            demo.create_dataset("actions", data=episode.actions.astype(np.float64))
            for camera in ("agentview_image", "robot0_eye_in_hand_image"):
                demo.create_dataset(f"obs/{camera}", data=episode.frames, compression="gzip")
            demo.create_dataset("obs/object", data=np.zeros((len(episode), 14)))
    return file


def csgo(folder: Path, frames: int = 12) -> Path:
    """As of Pearce and Zhu: a file of frames, blue first."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in (10, 2):
        with h5py.File(folder / f"hdf5_dm_july2021_{number}.hdf5", "w") as root:
            for i in range(frames):
                picture = np.zeros((6, 8, 3), np.uint8)
                picture[..., 0], picture[..., 2] = number, i
                root[f"frame_{i}_x"] = picture
                root[f"frame_{i}_xaux"] = np.zeros(54)
                root[f"frame_{i}_helperarr"] = np.zeros(2)
                keys = random.integers(0, 2, 13)
                root[f"frame_{i}_y"] = np.concatenate([keys, np.eye(23)[i % 23], np.eye(15)[i % 15]])
    return folder


def plain(file: Path, **arrays: Any) -> Path:
    """Arrays of one episode in a file; names with two underscores are paths."""
    with h5py.File(file, "w") as root:
        for name, value in arrays.items():
            root[name.replace("__", "/")] = value
    return file


def test_robomimic(tmp_path: Path) -> None:
    file = robomimic(tmp_path / "image.hdf5")
    with pytest.raises(V2WError, match="several cameras: agentview_image, robot0_eye_in_hand_image"):
        open_dataset(file)
    data = open_dataset(file, DataSettings(camera="agentview_image"))
    assert (data.fps, data.lengths, data.action_dim) == (20.0, [5, 9, 2], 2)
    assert alike(list(data.episodes()), tolerance=0)


def test_csgo(tmp_path: Path) -> None:
    data = open_dataset(csgo(tmp_path / "set"))
    assert (data.fps, data.lengths, data.action_dim) == (16.0, [12, 12], 51)
    assert [(part.name, part.kind, part.size) for part in data.action_space.parts] == [
        ("keys", "multi_binary", 13),
        ("mouse_x", "discrete", 23),
        ("mouse_y", "discrete", 15),
    ]
    assert data.action_names[:4] == ["w", "a", "s", "d"] and data.action_names[13] == "mouse_x=-1000"
    first, second = data.episodes()
    assert first.frames[3, 0, 0].tolist() == [3, 0, 2]  # red first
    assert second.frames[11, 0, 0].tolist() == [11, 0, 10]
    assert first.actions[4, 13:36].argmax() == 4


def test_minari_as_its_own_library_writes_it(tmp_path: Path) -> None:
    minari = pytest.importorskip("minari")
    gymnasium = pytest.importorskip("gymnasium")
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    assert minari
    random = np.random.default_rng(0)
    spaces = gymnasium.spaces
    for packed in (False, True):
        folder = tmp_path / f"packed {packed}" / "data"
        folder.parent.mkdir()
        observations = spaces.Dict(
            pixels=spaces.Box(0, 255, (32, 32, 3), np.uint8), state=spaces.Box(0, 1, (2,))
        )
        storage = MinariStorage.new(folder, observations, spaces.Discrete(3), jpeg_encoding=packed)
        choices = [random.integers(0, 3, t) for t in (5, 9)]
        frames = [
            np.repeat(np.arange(t + 1, dtype=np.uint8) * 20, 32 * 32 * 3).reshape(-1, 32, 32, 3)
            for t in (5, 9)
        ]
        storage.update_episodes(
            EpisodeBuffer(
                id=number,
                observations={
                    "pixels": list(frames[number]),
                    "state": list(np.zeros((t + 1, 2), np.float32)),
                },
                actions=list(choices[number]),
                rewards=[0.0] * t,
                terminations=[False] * t,
                truncations=[False] * t,
            )
            for number, t in enumerate((5, 9))
        )
        data = open_dataset(folder.parent, DataSettings(fps=10))
        assert (data.cameras, data.lengths, data.action_names) == (
            ["pixels"],
            [6, 10],
            ["action=0", "action=1", "action=2"],
        )
        for number, episode in enumerate(data.episodes()):
            assert np.abs(episode.frames.astype(int) - frames[number]).max() <= (3 if packed else 0)
            assert np.array_equal(episode.actions[:-1].argmax(1), choices[number])
            assert np.array_equal(episode.actions[-1], episode.actions[-2])


def test_a_map_of_keys(tmp_path: Path) -> None:
    """A file for each episode, as ALOHA has them, and channels first."""
    for number, episode in enumerate(episodes()):
        plain(
            tmp_path / f"episode_{number}.hdf5",
            observations__images__top=episode.frames.transpose(0, 3, 1, 2),
            action=episode.actions,
        )
    with pytest.raises(
        V2WError, match=r"layout is not known; episode_0.hdf5 has action, observations \(try: --key-map csgo"
    ):
        open_dataset(tmp_path)
    settings = DataSettings(key_map="frames=observations/images/top,actions=action", fps=50)
    assert alike(list(open_dataset(tmp_path, settings).episodes()), tolerance=0)
    with pytest.raises(V2WError, match="frames there are a second"):
        open_dataset(tmp_path, settings.model_copy(update={"fps": None}))


def test_colours_may_be_exchanged_and_grey(tmp_path: Path) -> None:
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[..., 0] = 9
    plain(tmp_path / "a.h5", f=frames, a=np.zeros((3, 2)), g=frames[..., :1])
    found = open_dataset(tmp_path, DataSettings(key_map="frames=f,actions=a,bgr=1", fps=1)).first().frames
    assert found[0, 0, 0].tolist() == [0, 0, 9]
    grey = open_dataset(tmp_path / "a.h5", DataSettings(key_map="frames=g,actions=a", fps=1)).first().frames
    assert (grey == 9).all()


@pytest.mark.parametrize(
    "text", ["csgo2", "frames=a", "frames=a,actions=b,x=c", "frames=/a,actions=b", "frames=a/../b,actions=b",
             "frames=*,actions=b", "frames=*/*,actions=*", "frames=a,actions=b,bgr=2", "frames=a,frames=a,actions=b"],
)  # fmt: skip
def test_maps_that_are_none(text: str, tmp_path: Path) -> None:
    plain(tmp_path / "a.h5", a=np.zeros((2, 4, 4, 3), np.uint8), b=np.zeros((2, 1)))
    with pytest.raises(V2WError, match="read --key-map"):
        open_dataset(tmp_path, DataSettings(key_map=text, fps=1))


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"f": np.zeros((3, 4, 4, 3)), "a": np.zeros((3, 1))}, "float64 of shape .*, not frames of uint8"),
        ({"f": np.zeros((3, 5, 5, 7), np.uint8), "a": np.zeros((3, 1))}, "without 1, 3 or 4 colours"),
        ({"f": np.zeros((3, 4, 4, 3), np.uint8), "a": np.zeros((5, 1))}, "'f' has 3 frames, 'a' 5 rows"),
        ({"f": np.zeros((3, 4, 4, 3), np.uint8)}, "'a' is not there"),
        ({"f": np.zeros((3, 4, 4, 3), np.uint8), "a": [b"left"] * 3}, "'a' is of type .*, not numbers"),
        ({"f": np.zeros((3, 4, 4, 3), np.uint8), "a": [[0.0], [np.nan], [1.0]]}, "row 1: nan, not finite"),
        ({"f": np.zeros((3, 4, 4, 3), np.uint8), "a": [0, 1, 2]}, "choices, or amounts"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(arrays: dict[str, Any], found: str, tmp_path: Path) -> None:
    plain(tmp_path / "a.h5", **arrays)
    with pytest.raises(V2WError, match=found):
        open_dataset(tmp_path, DataSettings(key_map="frames=f,actions=a", fps=1))


def test_the_fingerprint_is_of_the_content_and_of_what_is_read(tmp_path: Path) -> None:
    file = robomimic(tmp_path / "a.hdf5")
    one = open_dataset(file, DataSettings(camera="agentview_image"))
    seen = {
        one.fingerprint(),
        open_dataset(file, DataSettings(camera="robot0_eye_in_hand_image")).fingerprint(),
    }
    with h5py.File(file, "a") as root:
        root["data/demo_0/actions"][0, 0] = 7
    assert len(seen | {one.fingerprint()}) == 3

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.recordings import alike
from tests.data.written import CHOICES, GREYS, aloha, csgo, minari, plain, robomimic
from v2w_convert.data import DataSettings, open_dataset
from v2w_convert.errors import V2WError

h5py = pytest.importorskip("h5py")


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


@pytest.mark.parametrize("packed", [False, True])
def test_minari_as_its_own_library_writes_it(packed: bool, tmp_path: Path) -> None:
    pytest.importorskip("minari")
    data = open_dataset(minari(tmp_path / "set", packed), DataSettings(fps=10))
    assert (data.cameras, data.lengths) == (["pixels"], [6, 10])
    assert data.action_names == ["action=0", "action=1", "action=2"]
    for number, episode in enumerate(data.episodes()):
        assert np.abs(episode.frames.astype(int) - GREYS[number]).max() <= (3 if packed else 0)
        assert np.array_equal(episode.actions[:-1].argmax(1), CHOICES[number])
        assert np.array_equal(episode.actions[-1], episode.actions[-2])


def test_a_map_of_keys(tmp_path: Path) -> None:
    folder = aloha(tmp_path / "set")
    with pytest.raises(
        V2WError, match=r"layout is not known; episode_0.hdf5 has action, observations \(try: --key-map csgo"
    ):
        open_dataset(folder)
    settings = DataSettings(key_map="frames=observations/images/top,actions=action", fps=50)
    assert alike(list(open_dataset(folder, settings).episodes()), tolerance=0)
    with pytest.raises(V2WError, match="frames there are a second"):
        open_dataset(folder, settings.model_copy(update={"fps": None}))


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

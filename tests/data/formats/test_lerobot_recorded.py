"""Data sets that the lerobot package itself wrote, of both versions: what is in them is in tests/data/recorded/README.md."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from v2w_convert.data import Dataset, DataSettings, Episode, open_dataset
from v2w_convert.errors import V2WError

RECORDED = Path(__file__).parents[1] / "recorded"
TOP, WRIST = "observation.images.top", "observation.images.wrist"
K = np.arange(16)


@pytest.fixture(params=["v3", "v2"])
def folder(request: pytest.FixtureRequest) -> Path:
    return RECORDED / str(request.param)


def opened(folder: Path, camera: str = WRIST, **settings: object) -> tuple[Dataset, list[Episode]]:
    data = open_dataset(folder, DataSettings.model_validate({"camera": camera, **settings}))
    return data, list(data.episodes())


def joined(episodes: list[Episode]) -> np.ndarray:
    return np.concatenate([episode.actions for episode in episodes])


def test_pictures_and_videos(folder: Path) -> None:
    for camera, channel, size in ((TOP, 0, (64, 96)), (WRIST, 1, (32, 48))):
        data, episodes = opened(folder, camera)
        assert (data.lengths, data.fps, data.camera, data.faults) == ([5, 9, 2], 10, camera, [])
        assert data.cameras == [TOP, WRIST]
        assert data.tasks == [("go",)] * 3 == [episode.tasks for episode in episodes]
        frames = np.concatenate([episode.frames for episode in episodes])
        wanted = np.full((16, *size, 3), 20)
        wanted[..., channel] = 40 + 10 * K[:, None, None]
        assert np.abs(frames - wanted).max() <= (
            4 if camera == TOP else 0
        )  # AV1 is lossy; colours are 10 apart


def test_several_cameras_are_tiled_in_their_order(folder: Path) -> None:
    top, wrist, both = (opened(folder, camera)[1][1].frames for camera in (TOP, WRIST, f"{WRIST},{TOP}"))
    assert both.shape == (9, 64, 192, 3)
    assert np.array_equal(both[:, :, 96:], top)
    assert np.array_equal(both[:, :32, :48], wrist)
    assert not both[:, 32:, :96].any() and not both[:, :, 48:96].any()


def test_kinds_of_actions(folder: Path) -> None:
    eye = np.eye
    cases: list[tuple[dict[str, object], list[str], list[str], np.ndarray]] = [
        ({}, ["continuous"], ["dx", "dy"], np.stack([K / 2, -K], 1)),
        ({"action_key": "action.speed"}, ["continuous"], ["speed"], K[:, None] / 4),
        ({"action_key": "action.move"}, ["discrete"], ["action.move=stay", "action.move=left", "action.move=right"], eye(3)[K % 3]),
        ({"action_key": "action.menu"}, ["discrete"], [f"action.menu={i}" for i in range(5)], eye(5)[K % 5]),
        ({"action_key": "action.move,action.menu", "choices": "3,7"}, ["discrete", "discrete"],
         ["action.move=stay", "action.move=left", "action.move=right"] + [f"action.menu={i}" for i in range(7)],
         np.concatenate([eye(3)[K % 3], eye(7)[K % 5]], 1)),
        ({"action_key": "action.menu", "action_kind": "continuous"}, ["continuous"], ["action.menu_0"], K[:, None] % 5),
        ({"action_key": "action.keys"}, ["multi_binary"], ["w", "a", "d"], np.stack([K & 1, K & 2, K & 4], 1) > 0),
        ({"action_key": "action.steps", "action_kind": "continuous"}, ["continuous"], ["action.steps_0", "action.steps_1"], np.stack([K, K % 2], 1)),
        ({"action_key": "action.steps", "action_kind": "discrete"}, ["discrete", "discrete"],
         [f"action.steps_0={i}" for i in range(16)] + ["action.steps_1=0", "action.steps_1=1"], np.concatenate([eye(16)[K], eye(2)[K % 2]], 1)),
        ({"action_key": "action.speed,action.move", "state": True}, ["continuous", "discrete", "continuous"],
         ["speed", "action.move=stay", "action.move=left", "action.move=right", "state.a", "state.b", "state.c"],
         np.concatenate([K[:, None] / 4, eye(3)[K % 3], K[:, None] + np.arange(3)], 1)),
    ]  # fmt: skip
    for settings, kinds, names, wanted in cases:
        data, episodes = opened(folder, **settings)
        assert [part.kind for part in data.action_space.parts] == kinds
        assert data.action_names == names and data.action_dim == data.action_space.dim
        assert np.array_equal(joined(episodes), wanted.astype(np.float32))
        assert np.array_equal(np.concatenate(list(data.actions())), joined(episodes))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"camera": None}, f"several cameras: {TOP}, {WRIST}"),
        ({"action_key": "keys"}, r"there is no 'keys' \(try: --action-key, one or several of: observation.state, action, "),
        ({"action_key": TOP}, rf"'{TOP}' is video of shape \[64, 96, 3\], not one flat vector of numbers"),
        ({"action_key": "timestamp"}, "'timestamp' is float32"),
        ({"action_key": "action.steps"}, r"2 whole numbers \(int64\), which may be amounts, choices or keys"),
        ({"action_key": "action,action"}, "the same numbers twice"),
        ({"action_key": "observation.state", "state": True}, "the same numbers twice"),
        ({"action_kind": "discrete"}, "'action' goes up to .*|row 1 of 'dx': 0.5, not a choice"),
        ({"action_kind": "multi_binary"}, "row 1 of 'action': 0.5, not a key that is 0 or 1"),
        ({"key_map": "csgo"}, "does not take --key-map"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused(folder: Path, settings: dict[str, object], found: str) -> None:
    with pytest.raises(V2WError, match=found):
        opened(folder, **{"camera": WRIST, **settings})


def test_no_state(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "v3", tmp_path / "set")
    file = tmp_path / "set/meta/info.json"
    info = json.loads(file.read_text())
    del info["features"]["observation.state"]
    file.write_text(json.dumps(info))
    with pytest.raises(V2WError, match="no numbers 'observation.state' were recorded"):
        opened(tmp_path / "set", state=True)


def test_what_is_read_of_a_data_set_is_part_of_its_fingerprint(folder: Path) -> None:
    settings: list[dict[str, object]] = [
        {}, {"camera": TOP}, {"camera": f"{TOP},{WRIST}"}, {"camera": f"{WRIST},{TOP}"}, {"state": True},
        {"action_key": "action.menu"}, {"action_key": "action.menu", "action_kind": "continuous"},
    ]  # fmt: skip
    found = {
        open_dataset(folder, DataSettings.model_validate({"camera": WRIST, **one})).fingerprint()
        for one in settings
    }
    assert len(found) == len(settings)

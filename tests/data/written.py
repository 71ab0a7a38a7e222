"""Data sets in the layouts of others, written by their libraries: what tests read, and the table of docs/reference/data-formats.md."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.coloured import episodes


def robomimic(file: Path, **env: Any) -> Path:
    """As robomimic's dataset_states_to_obs.py writes it: demo_10 after demo_2."""
    import h5py

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
    import h5py

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
    import h5py

    with h5py.File(file, "w") as root:
        for name, value in arrays.items():
            root[name.replace("__", "/")] = value
    return file


CHOICES = [np.arange(t) % 3 for t in (5, 9)]
GREYS = [np.repeat(np.arange(t + 1, dtype=np.uint8) * 20, 32 * 32 * 3).reshape(-1, 32, 32, 3) for t in (5, 9)]


def minari(folder: Path, packed: bool) -> Path:
    """By Minari's own storage: GREYS, one more than the CHOICES, raw or as JPEG."""
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    folder.mkdir()
    seen = spaces.Dict(pixels=spaces.Box(0, 255, (32, 32, 3), np.uint8), state=spaces.Box(0, 1, (2,)))
    storage = MinariStorage.new(folder / "data", seen, spaces.Discrete(3), jpeg_encoding=packed)
    storage.update_episodes(
        EpisodeBuffer(
            id=number,
            observations={"pixels": list(GREYS[number]), "state": list(np.zeros((t + 1, 2), np.float32))},
            actions=list(CHOICES[number]),
            rewards=[0.0] * t,
            terminations=[False] * t,
            truncations=[False] * t,
        )
        for number, t in enumerate((5, 9))
    )
    return folder


def aloha(folder: Path) -> Path:
    """A file for each episode, channels first."""
    folder.mkdir()
    for number, episode in enumerate(episodes()):
        frames = episode.frames.transpose(0, 3, 1, 2)
        plain(folder / f"episode_{number}.hdf5", observations__images__top=frames, action=episode.actions)
    return folder

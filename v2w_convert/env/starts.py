"""Where episodes begin: some observed frames, and the actions between them."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from v2w_convert.data import Episode
from v2w_convert.data.actions import ActionSpace, recognised
from v2w_convert.data.dataset import Dataset
from v2w_convert.data.starts import open_starts as kept_starts
from v2w_convert.env.settings import EnvSettings
from v2w_convert.env.spaces import Actions, actions_of
from v2w_convert.errors import V2WError
from v2w_convert.surgery.action_statistics import ActionStatistics, recorded_actions
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.world.temporal_compression import TemporalCompression, require_actions

MAX_STARTS = 256  # episodes of a data set whose beginnings are held in memory

Starts = str | Path | Sequence[Episode] | None


def open_starts(
    starts: Starts, folder: Path, manifest: Manifest, settings: EnvSettings
) -> tuple[Dataset | None, Sequence[Episode]]:
    """The data set, if it is one, and the episodes that say where to begin, each with its frames from the first on.

    Args:
        starts: A data set; or episodes; None: what is kept with the world.
        folder: The world's.
        manifest: Its record.
        settings: How the data is read, where they say it.

    Raises:
        V2WError: There is none, or it cannot be read.
    """
    asked = f"make an environment of {folder}"
    if starts is None or isinstance(starts, str | Path):
        path = None if starts is None else Path(starts)
        data = kept_starts(folder, path, settings, manifest.view, asked, "starts=DATA, recorded episodes")
        return data, list(islice(data.episodes(), MAX_STARTS))
    if not len(starts) or not all(isinstance(episode, Episode) for episode in starts):
        raise V2WError(
            asked, "starts are no episodes", "starts=[v2w_convert.data.Episode(frames, actions), …]"
        )
    return None, starts


def beginnings(episodes: Sequence[Episode], history: int, a: int, asked: str) -> list[Episode]:
    """The first `history` frames of each episode that has as many, with copies of their arrays.

    Args:
        episodes: The episodes.
        history: How many.
        a: Numbers in an action.
        asked: What is being done, for the error.

    Raises:
        V2WError: No episode is that long, or sizes differ.
    """
    long = [episode for episode in episodes if len(episode) >= history]
    if not long:
        longest = max(map(len, episodes), default=0)
        raise V2WError(asked, f"the longest episode to start from has {longest} frames", f"{history} or more")
    if len(sizes := {episode.frames.shape[1:] for episode in long}) > 1:
        raise V2WError(asked, f"frames of {len(sizes)} sizes to start from", "frames of one size")
    if wrong := {episode.actions.shape[1] for episode in long} - {a}:
        raise V2WError(asked, f"actions of {min(wrong)} numbers to start from, the model takes {a}")
    return [Episode(e.frames[:history].copy(), e.actions[:history].copy(), e.tasks) for e in long]


def known_actions(
    manifest: Manifest, data: Dataset | None, packing: TemporalCompression, asked: str
) -> Actions:
    """What actions are, as far as the model was trained on them: by its record, or else by the data that it starts from.

    Args:
        manifest: The model's record.
        data: The data that it starts from.
        packing: Its autoencoder's.
        asked: What is being done, for the error.

    Raises:
        V2WError: Neither says it, or they do not fit the model.
    """
    runs = recorded_actions(manifest)
    if runs and runs[-1] is not None and (space := runs[-1].space) is not None:
        return _of_record(runs[-1], space, manifest.action_dim, packing, asked)
    if data is None:
        raise V2WError(
            asked,
            "the model was finetuned by a version that kept no record of its actions, or not at all",
            "starts=DATA, a data set, which says what they are",
        )
    require_actions(asked, data.action_dim, manifest.action_dim, packing, "the model's own data, or")
    rows = np.concatenate([actions[:-1] for actions in data.actions()])  # the last row leads nowhere
    if not len(rows) or not np.isfinite(rows).all():
        raise V2WError(asked, f"actions of {data.path} are missing, NaN or infinite")
    return actions_of(recognised(data.action_space, rows), rows.min(0), rows.max(0))


def _of_record(
    statistics: ActionStatistics,
    space: ActionSpace,
    action_dim: int,
    packing: TemporalCompression,
    asked: str,
) -> Actions:
    require_actions(asked, space.dim, action_dim, packing, "a world finetuned by this version, or")
    low, high = (
        np.array(each, np.float32).reshape(packing.k, space.dim) for each in (statistics.min, statistics.max)
    )
    if not (low <= high).all():
        raise V2WError(asked, "the record of its actions has a least value above the largest")
    return actions_of(space, low.min(0), high.max(0))

"""Where rollouts begin if nobody names a data set: first frames of episodes, which finetuning keeps with the model."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from v2w_convert.data.dataset import Dataset
from v2w_convert.data.episode import Episode
from v2w_convert.data.open import open_dataset, write_dataset
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError
from v2w_convert.links import refuse_links_out, require_plain

STARTS = "starts"  # in a model's folder
EPISODES = 12


def spread(lengths: list[int], least: int, count: int) -> list[int]:
    """The numbers of `count` episodes of at least `least` frames, evenly spaced among those; fewer if there are not as many."""
    long = [number for number, length in enumerate(lengths) if length >= least]
    places = np.linspace(0, len(long) - 1, min(count, len(long))).round().astype(int)
    return [long[place] for place in places]


def write_starts(data: Dataset, model: Path, frames: int) -> str | None:
    """Write the first frames of some episodes into a model's folder, in place of those that are there.

    Args:
        data: The data set, as the model is trained on it.
        model: The folder.
        frames: How many of each episode, at most.

    Returns:
        Why they cannot be written; None if they are.
    """
    chosen = spread(data.lengths, min(frames, max(data.lengths)), EPISODES)

    def episodes() -> Iterator[Episode]:
        for number in chosen:
            episode = next(iter(data.episodes_from(number)))
            yield Episode(episode.frames[:frames], episode.actions[:frames], episode.tasks)

    folder, partial = model / STARTS, model / f"{STARTS}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write_dataset(episodes(), partial, fps=max(1, round(data.fps)), action_names=data.action_space)
    except V2WError as error:  # such as odd sides: no reason to end a run
        shutil.rmtree(partial, ignore_errors=True)
        return f"no frames to begin from are kept with the model: {error.found}"
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return None


def open_starts(
    model: Path, data: Path | None, settings: DataSettings, recorded: DataSettings, asked: str, advice: str
) -> Dataset:
    """Open the data set that rollouts begin from.

    Args:
        model: The model's folder.
        data: The data set; None: what is kept with the model, whose frames already are as it was trained on.
        settings: How to read it.
        recorded: How the data that the model was trained on was read.
        asked: What is being done, for the error.
        advice: How to name a data set there.

    Raises:
        V2WError: There is none, or it cannot be read.
    """
    if data is not None:
        return open_dataset(data, settings, recorded)
    if not (model / STARTS).is_dir():
        found = "no frames to begin from are kept with it, as they are with finetuned models"
        raise V2WError(asked, found, advice)
    refuse_links_out([model / STARTS], model, asked)
    require_plain(model / STARTS, asked)
    return open_dataset(model / STARTS, settings)

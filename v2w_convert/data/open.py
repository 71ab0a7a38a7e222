"""The one way in to recorded data, whatever its format, and the way out: `open_dataset`, `write_dataset`."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from v2w_convert.data import formats
from v2w_convert.data.actions import ActionSpace
from v2w_convert.data.dataset import Dataset, Format
from v2w_convert.data.episode import Episode
from v2w_convert.data.formats.lerobot_writer import write
from v2w_convert.data.hub import resolve_data
from v2w_convert.data.settings import VIEW, DataSettings
from v2w_convert.data.view import choice_counts, viewed
from v2w_convert.errors import V2WError

MAX_NAMES = 5  # that an error tells
MAX_LOOKED_AT = 100  # names in a folder that is no data set


def open_dataset(
    path: str | Path, settings: DataSettings | None = None, recorded: DataSettings | None = None
) -> Dataset:
    """Open a data set of any format in `data.formats.FORMATS`.

    Args:
        path: A folder or file, or a data set on the Hugging Face Hub (OWNER/NAME).
        settings: How to read it; None: as it is.
        recorded: How the data that a model was trained on was read: holds where `settings` say nothing, as far as the format
            of this data takes it.

    Returns:
        The data set. Only its description has been read.

    Raises:
        V2WError: Nothing is there, no format matches, the description is damaged, there is no episode, the
            camera is not named or not there, a setting is given that the format has no use for, or its
            rate cannot become the one that is asked for.
    """
    settings = settings or DataSettings()
    path = resolve_data(Path(path), settings.over(recorded or DataSettings(), {"camera"}))
    asked = f"read the data set {path}"
    if not path.exists():
        raise V2WError(asked, "no such folder or file", "check the path")
    for candidate in formats.FORMATS:
        if candidate.matches(path):
            require_taken(candidate, settings, asked)
            settings = settings.over(recorded or DataSettings(), candidate.takes | VIEW)
            data = candidate.open(path, settings)
            data.format = candidate.name
            require_choices(data, settings, asked)
            return viewed(data, settings)
    raise unknown_format(path, asked)


def unknown_format(path: Path, asked: str) -> V2WError:
    """The error for what no format takes: what lies there, and data sets one folder up or down."""

    def is_data(place: Path) -> bool:
        return any(candidate.matches(place) for candidate in formats.FORMATS)

    known = "; ".join(f"{candidate.name}: {candidate.contents}" for candidate in formats.FORMATS)
    if not path.is_dir():
        advice = str(path.parent) if is_data(path.parent) else known
        return V2WError(asked, "it is a file of no known format", advice)
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except OSError as error:
        return V2WError(asked, str(error))
    if not names:
        return V2WError(asked, "it is empty", known)
    held = [*names[:MAX_NAMES], *(["…"] if len(names) > MAX_NAMES else [])]
    below = [str(path / name) for name in names[:MAX_LOOKED_AT] if is_data(path / name)]
    found = f"its format is not known; it holds {', '.join(held)}"
    return V2WError(asked, found, ", or ".join(below[:MAX_NAMES]) or known)


def require_taken(form: Format, settings: DataSettings, asked: str) -> None:
    """Check that the format takes every setting that is given.

    Raises:
        V2WError: It does not.
    """
    if refused := [name for name in settings.said() if name not in form.takes | VIEW]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in refused)
        raise V2WError(asked, f"data of the format {form.name} does not take {flags}", "without it")


def require_choices(data: Dataset, settings: DataSettings, asked: str) -> None:
    """Check that the discrete numbers of an action have as many choices as was said.

    Raises:
        V2WError: They have not.
    """
    if settings.choices is not None and (found := choice_counts(data)) != settings.choices:
        has = f"it has {found}" if found else "it has no discrete numbers"
        raise V2WError(
            asked, f"--choices {settings.choices}, and {has}", f"--choices {found}" if found else ""
        )


def write_dataset(
    episodes: Iterable[Episode],
    folder: str | Path,
    *,
    fps: int,
    action_names: Sequence[str] | ActionSpace,
    task: str = "",
    robot: str = "",
) -> None:
    """Write `episodes` to a new folder, in the format that v2w prefers: LeRobot v3.

    Episodes are consumed and written one at a time, so that a generator of any length can be written.

    Args:
        episodes: All with frames of one size and actions of one length.
        folder: A new or empty folder.
        fps: Frames per second.
        action_names: A name for each number of an action, which are amounts then; or what they are: choices and keys are
            stored as such. Several parts become a feature each, action.NAME.
        task: What is being done, in words, where an episode does not say it itself.
        robot: Who or what does it.

    Raises:
        V2WError: `folder` is not empty, there is no episode, or an episode does not fit the first one.
    """
    space = action_names if isinstance(action_names, ActionSpace) else ActionSpace.continuous(action_names)
    write(episodes, Path(folder), fps=fps, space=space, task=task, robot=robot)

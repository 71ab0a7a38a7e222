"""Experiment trackers that get a run's log, each an optional package."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2w_convert.errors import V2WError, one_line
from v2w_convert.finetuning.run_folder import TENSORBOARD
from v2w_convert.finetuning.watch_settings import Tracker

Picture = NDArray[np.uint8]
"""(h w 3)"""


class _Open(Protocol):
    """A tracker's run that is being written."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers."""

    def picture(self, name: str, picture: Picture, step: int) -> None:
        """Write a picture."""

    def finish(self) -> None:
        """Write what was not written yet."""


class Trackers:
    """The trackers of a run, opened when there is something to write.

    What a tracker prints goes to standard error, because standard output is the command's result.
    """

    def __init__(self, names: Sequence[Tracker], project: str, output: Path, settings: dict[str, Any]):
        """Check that they are installed.

        Args:
            names: Which ones.
            project: The project's name.
            output: The run folder; its name is the run's.
            settings: Of the run.

        Raises:
            V2WError: A package is not installed.
        """
        missing = [name for name in names if not _is_installed(name)]
        if missing:
            wanted = ",".join(missing)
            raise V2WError(
                f"report to {', '.join(missing)}", "not installed", f"pip install 'v2w-convert[{wanted}]'"
            )
        self.names, self._project, self._output, self._settings = names, project, output, settings
        self._open: dict[str, _Open] = {}

    def log(self, line: Mapping[str, Any]) -> None:
        """Write a line of the log: its numbers, at its step.

        Raises:
            V2WError: A tracker cannot be opened.
        """
        values = {key: value for key, value in line.items() if key != "step" and value is not None}
        self._each(line["step"], lambda run: run.log(values, line["step"]))

    def picture(self, name: str, picture: Picture, step: int) -> None:
        """Write a picture (h w 3).

        Raises:
            V2WError: As `log`.
        """
        self._each(step, lambda run: run.picture(name, picture, step))

    def close(self) -> None:
        """Write what was not written yet."""
        with _quiet("end reporting"):
            for run in self._open.values():
                run.finish()
        self._open = {}

    def _each(self, step: int, do: Callable[[_Open], None]) -> None:
        for name in self.names:
            with _quiet(f"report to {name}"):
                if name not in self._open:
                    self._open[name] = _OPENERS[name](self._project, self._output, self._settings, step)
                do(self._open[name])


def _is_installed(name: str) -> bool:
    """Whether there is such a package; a folder of its name that wandb has written here is none."""
    found = find_spec(name)
    return found is not None and found.origin is not None


class _TensorBoard:
    def __init__(self, project: str, output: Path, settings: dict[str, Any], step: int):
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote of this step and later ones is not shown.
        self.writer = SummaryWriter(output / TENSORBOARD, purge_step=step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def picture(self, name: str, picture: Picture, step: int) -> None:
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def finish(self) -> None:
        self.writer.close()


class _Wandb:
    """Its files lie where it says (WANDB_DIR): among them is a link out of their folder, which a run folder must not have."""

    def __init__(self, project: str, output: Path, settings: dict[str, Any], step: int):
        import wandb

        self.package: Any = wandb
        self.run: Any = wandb.init(
            project=project,
            name=output.name,
            id=hashlib.sha256(str(output.resolve()).encode(errors="surrogateescape")).hexdigest()[:16],
            resume="allow",  # the same run in the same folder goes on
            config=settings,
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, name: str, picture: Picture, step: int) -> None:
        self.run.log({name: self.package.Image(picture)}, step=step)

    def finish(self) -> None:
        self.run.finish()


class _Trackio:
    def __init__(self, project: str, output: Path, settings: dict[str, Any], step: int):
        import trackio

        self.package: Any = trackio
        self.run: Any = trackio.init(
            project=project, name=output.name, resume="allow", config=settings, embed=False
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, name: str, picture: Picture, step: int) -> None:
        self.run.log({name: self.package.Image(picture)}, step=step)

    def finish(self) -> None:
        self.package.finish()  # and not the run's own, which the package would call once more at exit


_OPENERS: dict[str, Callable[[str, Path, dict[str, Any], int], _Open]] = {
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _Wandb,
}


@contextmanager
def _quiet(asked: str) -> Iterator[None]:
    """Keep a tracker from standard output, and make its errors one line."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # whatever the package raises: not logged in, no network, …
        raise V2WError(asked, one_line(error), "the same command without it: the run goes on") from error

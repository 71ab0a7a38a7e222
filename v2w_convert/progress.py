"""How far a long task has come: one event type and one callback type for every function that takes time.

A function that works for long takes `progress: Progress | None = None` and calls it with a
:class:`ProgressEvent` after each unit of work. The command line shows the events as progress bars; a
notebook or a tracker may do something else with them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ProgressEvent:
    """A task has come this far.

    Attributes:
        task: Short name of the task, in the present tense: "encode", "train", "verify"; "note" if `detail` is a
            message for the user, which is not about how far the task has come.
        done: Units of work that are finished; counts those of an earlier, resumed process too. None if
            the work is not counted.
        total: Units of work in the whole task; None if not known.
        detail: What is being worked on, or a figure of this unit, such as "loss 0.0123".
        seconds_left: Estimated time to the end of this task, in seconds; None if not known.
    """

    task: str
    done: int | None = None
    total: int | None = None
    detail: str = ""
    seconds_left: float | None = None


Progress = Callable[[ProgressEvent], None]


def no_progress(event: ProgressEvent) -> None:
    """Ignore `event`: the callback of a caller that does not want to know."""


class Pace:
    """Estimates the seconds left of a task from its mean pace since this object was created."""

    def __init__(self, done: int, total: int):
        """Start the clock.

        Args:
            done: Units of work that are finished already.
            total: Units of work in the whole task.
        """
        self.started, self.done_at_start, self.total = time.monotonic(), done, total

    def seconds_left(self, done: int) -> float:
        """Return the estimate once `done` units, more than at the start, are finished."""
        seconds_per_unit = (time.monotonic() - self.started) / (done - self.done_at_start)
        return seconds_per_unit * (self.total - done)

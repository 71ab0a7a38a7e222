"""Signals that ask a process to end: noted while a step is made, and obeyed once what it has come to is kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)


class Pending:
    """The signal that has come, if any. A second one is obeyed at once."""

    def __init__(self) -> None:
        """None has come."""
        self.number: int | None = None
        self.before: dict[int, Any] = {}

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The handler."""
        hurry, self.number = self.number is not None, number
        if hurry:
            self.obey()

    def obey(self) -> None:
        """Do what was done at the signal before. With most handlers this does not return."""
        number, self.number = self.number, None
        if number not in self.before:
            return
        handler = signal.signal(number, self.before[number])
        signal.raise_signal(number)
        signal.signal(number, handler)

    def also(self) -> None:
        """As if SIGTERM had come, unless another one has: it has come to another process of the run."""
        self.number = self.number or signal.SIGTERM

    def __bool__(self) -> bool:
        """Whether one has come."""
        return self.number is not None


@contextmanager
def deferred() -> Iterator[Pending]:
    """Note SIGTERM and SIGINT within the block instead of obeying them; those that are ignored stay ignored.

    Handlers belong to the main thread: in another one, nothing changes.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    handlers = {number: signal.getsignal(number) for number in ENDING}
    pending.before = {n: known for n, known in handlers.items() if known not in (None, signal.SIG_IGN)}
    try:
        for number in pending.before:
            signal.signal(number, pending.note)
        yield pending
    finally:
        for number, handler in pending.before.items():
            signal.signal(number, handler)
    pending.obey()

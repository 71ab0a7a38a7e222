"""How a command ends before it is done: stopped by a signal, with nobody to read what it prints, or by a fault of v2w."""

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

from v2w_convert.escape import printable

# What shells show of a program that a signal ended: 128 and the signal's number.
INTERRUPTED, UNREAD, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGPIPE, 128 + signal.SIGTERM
FAULT = 70  # EX_SOFTWARE of sysexits.h
KEPT = {
    "convert": "what was written is kept; the same command again continues it",
    "finetune": "the checkpoints are kept; the same command again continues from the last one",
    "play": "the page is closed",
}
NOTHING_KEPT = "no output was written"


class Terminated(BaseException):
    """SIGTERM, which ends a command as Ctrl-C does: whatever is half done is put away."""


def prepare() -> None:
    """Make SIGTERM an exception, and standard output and error fit for any text; a closed one swallows it."""
    signal.signal(signal.SIGTERM, _terminate)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        else:
            stream.reconfigure(errors="backslashreplace")


def stopped(how: str, command: str) -> str:
    """The line for a command that was stopped."""
    return f"{how}: {KEPT.get(command, NOTHING_KEPT)}"


def nobody_reads() -> int:
    """Have what is still to be printed vanish, since the reader of standard output has left; returns the exit code."""
    from v2w_convert.console import discard

    discard(sys.stdout)
    return UNREAD


def fault() -> int:
    """Print the present exception, which is a fault of v2w and may quote a file; returns the exit code."""
    for line in traceback.format_exc().splitlines():
        sys.stderr.write(f"{printable(line)}\n")
    sys.stderr.write("v2w: this is a fault of v2w: please report it with the lines above\n")
    return FAULT


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated

"""Mistakes of the user, reported in one line: what was asked for, what was found, what to try."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from v2w_convert.escape import printable

MAX_LIBRARY_MESSAGE = 400  # characters of another library's message


class V2WError(Exception):
    """A mistake that the user can correct. The command line prints it as one line and exits with code 2.

    Attributes:
        asked: What was asked for, such as "read the plan plan.yaml".
        found: What was found instead.
        try_: What to try; may be empty.
    """

    def __init__(self, asked: str, found: str | list[str], try_: str = ""):
        """Build the message. What files say is made printable.

        Args:
            asked: What was asked for, as a verb phrase.
            found: What was found instead; several faults are reported together.
            try_: What to try.
        """
        self.asked = printable(asked)
        self.found = printable("; ".join(found) if isinstance(found, list) else found)
        self.try_ = printable(try_)
        super().__init__(f"{self.asked}: {self.found}" + (f" (try: {self.try_})" if self.try_ else ""))

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints, as `docs/schemas/error.schema.json` describes it."""
        return {"ok": False, "error": {"asked": self.asked, "found": self.found, "try": self.try_}}


@contextmanager
def error_context(*files: Path | None) -> Iterator[None]:
    """Add the names of files to every V2WError raised in the block that does not name them itself.

    Args:
        files: The files that the block reads; None is ignored.

    Raises:
        V2WError: That of the block, with the names.
    """
    try:
        yield
    except V2WError as error:
        unnamed = [str(file) for file in files if file is not None and str(file) not in str(error)]
        if not unnamed:
            raise
        raise V2WError(f"{error.asked} ({', '.join(unnamed)})", error.found, error.try_) from None


def one_line(error: BaseException) -> str:
    """Return the message of another library's exception, which may be pages long, on one short line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    half = MAX_LIBRARY_MESSAGE // 2
    return text if len(text) <= MAX_LIBRARY_MESSAGE else f"{text[:half]} … {text[-half:]}"

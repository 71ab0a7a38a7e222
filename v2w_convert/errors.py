"""What a user did that cannot work, said in one line: what was asked, what was found, what to try."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_MESSAGE_LENGTH = 4000  # characters of one part of a message


class V2WError(Exception):
    """A mistake that the user can mend. The command line turns it into one line and exit code 2.

    asked   what the user asked for
    found   what was there instead; several faults are collected into one error, not thrown one by one
    try_    what to do about it
    """

    def __init__(self, asked: str, found: str | list[str], try_: str = ""):
        self.asked = printable(asked)
        self.found = printable("; ".join(found) if isinstance(found, list) else found)
        self.try_ = printable(try_)
        super().__init__(f"{self.asked}: {self.found}" + (f" (try: {self.try_})" if self.try_ else ""))

    def as_json(self) -> dict:
        return {"ok": False, "error": {"asked": self.asked, "found": self.found, "try": self.try_}}


@contextmanager
def error_context(*files: Path | None) -> Iterator[None]:
    """Faults that are found within are said with the files that they come from, where they do not name them."""
    try:
        yield
    except V2WError as error:
        unnamed = [str(file) for file in files if file is not None and str(file) not in str(error)]
        if not unnamed:
            raise
        raise V2WError(f"{error.asked} ({', '.join(unnamed)})", error.found, error.try_) from None


def printable(text: str) -> str:
    """`text` on one line, not endless and without control characters: what a file says is not trusted with a terminal."""
    shown = (
        text
        if len(text) <= MAX_MESSAGE_LENGTH
        else f"{text[:MAX_MESSAGE_LENGTH]}… and {len(text) - MAX_MESSAGE_LENGTH} more characters"
    )
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)


def one_line(error: Exception) -> str:
    """What another library says, which may be pages, on a line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 400 else f"{text[:200]} … {text[-200:]}"

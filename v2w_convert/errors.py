"""What a user did that cannot work, said in one line: what was asked, what was found, what to try."""

LONGEST = 4000  # characters of one part of a message


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


def printable(text: str) -> str:
    """`text` on one line, not endless and without control characters: what a file says is not trusted with a terminal."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}… and {len(text) - LONGEST} more characters"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)

"""`v2w` commands, run as a user would."""

from v2w_convert.cli import run
from v2w_convert.console import print_line


def v2w(*arguments: object) -> None:
    """Print and run one command.

    Raises:
        SystemExit: It failed; with its exit code.
    """
    words = [str(a) for a in arguments]
    print_line("$ v2w " + " ".join(words))
    if code := run(words):
        raise SystemExit(code)

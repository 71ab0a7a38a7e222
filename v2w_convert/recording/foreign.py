"""Code of others that users name: environments and policies. What goes wrong in it is not a fault of v2w."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from v2w_convert.errors import V2WError, one_line


@contextmanager
def foreign(asked: str) -> Iterator[None]:
    """Turn any exception in the block into a V2WError that says where it was raised.

    Raises:
        V2WError: As said.
    """
    try:
        yield
    except V2WError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise V2WError(asked, f"{one_line(error)} ({place.filename}, line {place.lineno})") from error


def load_function(name: str, asked: str, example: str) -> Callable[..., Any]:
    """The function MODULE:FUNCTION; the module is imported, and the present folder is searched first.

    Args:
        name: As said.
        asked: What is being done, for the error message.
        example: What to try, for the error message.

    Raises:
        V2WError: There is no such module or function, or importing it fails.
    """
    module, colon, function = name.partition(":")
    if not (colon and module and function):
        raise V2WError(asked, "not of the form MODULE:FUNCTION", example)
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    with foreign(asked):
        found: Callable[..., Any] | None = getattr(import_module(module), function, None)
    if not callable(found):
        raise V2WError(asked, f"{module} has no function {function}")
    return found

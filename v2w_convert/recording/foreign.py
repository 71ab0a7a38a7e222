"""Code of others that users name: environments and policies. What goes wrong in it is not a fault of v2w."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

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

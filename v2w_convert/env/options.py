"""What is drawn, or chosen by `options`, when an episode begins."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from v2w_convert.env.opened import OpenedWorld
from v2w_convert.errors import V2WError

ASKED = "reset the environment"


def read_options(options: Mapping[str, Any] | None, known: set[str]) -> dict[str, Any]:
    """The options, which must be among `known`.

    Raises:
        V2WError: One is not.
    """
    found = dict(options or {})
    if unknown := found.keys() - known:
        raise V2WError(
            ASKED, f"unknown options {', '.join(sorted(map(str, unknown)))}", ", ".join(sorted(known))
        )
    return found


def chosen_start(opened: OpenedWorld, random: np.random.Generator, given: Any) -> int:
    """The number of a beginning: the given one, or one that is drawn.

    It is drawn in either case, so that what is drawn after it does not depend on that.

    Raises:
        V2WError: There is none of this number.
    """
    drawn = int(random.integers(len(opened.starts)))
    if given is None:
        return drawn
    whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not whole or not 0 <= given < len(opened.starts):
        raise V2WError(ASKED, f"no start {given!r:.80}", f"0 to {len(opened.starts) - 1}")
    return int(given)


def noise_seed(random: np.random.Generator) -> int:
    """A seed of an episode's noise."""
    return int(random.integers(2**63))

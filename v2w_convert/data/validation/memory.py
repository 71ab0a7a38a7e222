"""How much memory data may take."""

import math
import resource
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_convert.errors import V2WError


def require_memory(size: int, asked: str, what: str) -> None:
    """Check that so many bytes can be had, before they are filled.

    Raises:
        V2WError: They cannot.
    """
    if (free := free_memory()) is not None and size > free:
        raise V2WError(
            asked, f"{what} take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free", "less at once"
        )


def new_frames(shape: tuple[int, ...], asked: str, what: str) -> NDArray[np.uint8]:
    """A new array of frames, to be filled.

    Raises:
        V2WError: It does not fit into memory.
    """
    require_memory(math.prod(shape), asked, what)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError:
        raise V2WError(asked, f"there is no memory for {what}", "less at once") from None


def free_memory() -> float | None:
    """Bytes; None where the machine does not say."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    found = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return min([*found, *([float(limit)] if limit != resource.RLIM_INFINITY else [])], default=None)

"""Tiny episodes that no codec can confuse."""

import numpy as np

from v2w_convert.data import Episode


def episodes() -> list[Episode]:
    """Three clips of different lengths in which every frame has a colour of its own."""
    made, colour = [], 10
    for t in (5, 9, 2):
        frames = np.stack([np.full((16, 16, 3), colour + 15 * i, np.uint8) for i in range(t)])
        colour += 7
        made.append(Episode(frames, np.arange(2 * t, dtype=np.float32).reshape(t, 2) + colour))
    return made

"""Several cameras in one picture: side by side, then in rows, in the order in which they are named."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from v2w_convert.data.validation.memory import new_frames


class Tiles:
    """Where pictures of these sizes lie in one. Each has a cell of the largest height and width; the rest is black.

    Two lie side by side, three or four in two rows of two, and so on.

    Attributes:
        height: Of the whole.
        width: Of the whole.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]]):
        """Args: sizes: Height and width of each picture; one at least."""
        self.sizes = list(sizes)
        self._columns = math.ceil(math.sqrt(len(sizes)))
        self._cell = max(h for h, _ in sizes), max(w for _, w in sizes)
        self.height = self._cell[0] * math.ceil(len(sizes) / self._columns)
        self.width = self._cell[1] * self._columns

    def new(self, t: int, asked: str, what: str) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
        """t frames (t, height, width, 3) to be filled, and a view of each picture's part of them.

        Raises:
            V2WError: They do not fit into memory.
        """
        whole = new_frames((t, self.height, self.width, 3), asked, what)
        if len(self.sizes) > 1:
            whole[:] = 0
        views = []
        for number, (height, width) in enumerate(self.sizes):
            row, column = divmod(number, self._columns)
            y, x = row * self._cell[0], column * self._cell[1]
            views.append(whole[:, y : y + height, x : x + width])
        return whole, views

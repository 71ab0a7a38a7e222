import numpy as np
import pytest
import torch
from torch import Tensor

from v2w_convert.verify.picture import CELL, LEFT, TOP, draw_influence


def cell(picture: np.ndarray, o: int, i: int, panel: int = 0, t: int = 3) -> tuple[int, ...]:
    x = LEFT + panel * (LEFT + t * CELL) + i * CELL + CELL // 2
    return tuple(int(v) for v in picture[TOP + o * CELL + CELL // 2, x])


def test_zeros_are_white_and_more_is_darker() -> None:
    before = torch.tensor([[1.0, 1e-3, 1e-6], [1e-3, 1.0, 1e-3], [1e-6, 1e-3, 1.0]])
    picture = draw_influence(before, before.tril())
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    one, less, least = (sum(cell(picture, 0, i)) for i in range(3))
    assert one < less < least < 3 * 255
    assert [cell(picture, 0, i, panel=1) == (255, 255, 255) for i in range(3)] == [False, True, True]


@pytest.mark.parametrize("after", [torch.zeros(3, 3), torch.full((3, 3), 2.0), torch.full((3, 3), torch.inf)])
def test_the_odd_cases_are_drawn(after: Tensor) -> None:
    """No effect at all, one value only, no number; and no base."""
    picture = draw_influence(None, after)
    assert (cell(picture, 1, 1) == (255, 255, 255)) == (float(after[0, 0]) == 0)

import numpy as np
import pytest

from v2w_convert.verification.report.influence_png import CELL, LEFT, TOP, Matrix, draw_influence

WHITE, RED = (255, 255, 255), (220, 0, 0)
BASE: Matrix = [[1.0, 1e-3, 1e-6], [1e-3, 1.0, 1e-3], [1e-6, 1e-3, 1.0]]
WORLD: Matrix = [[1.0, 0.0, 0.0], [1e-3, 1.0, 0.0], [1e-6, 1e-3, 1.0]]


def cell(picture: np.ndarray, o: int, i: int, panel: int = 0, t: int = 3) -> tuple[int, ...]:
    x = LEFT + panel * (LEFT + t * CELL) + i * CELL + CELL // 2
    return tuple(int(v) for v in picture[TOP + o * CELL + CELL // 2, x])


def test_zeros_are_white_and_more_is_darker() -> None:
    picture = draw_influence(BASE, WORLD)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    one, less, least = (sum(cell(picture, 2, i)) for i in (2, 1, 0))
    assert one < less < least < 3 * 255
    assert [cell(picture, 0, i, panel=1) == WHITE for i in range(3)] == [False, True, True]


def test_later_frames_are_orange_and_those_of_a_block_are_not_later() -> None:
    def orange(colour: tuple[int, ...]) -> bool:
        return colour[0] > colour[2]

    by_frame, by_block = draw_influence(BASE, WORLD), draw_influence(BASE, WORLD, n=2)
    assert [orange(cell(by_frame, 0, i)) for i in range(3)] == [False, True, True]
    assert [orange(cell(by_block, 0, i)) for i in range(3)] == [False, False, True]
    assert not orange(cell(by_frame, 2, 0))


@pytest.mark.parametrize("value", [0.0, 2.0, None])
def test_the_odd_cases_are_drawn(value: float | None) -> None:
    """No effect at all, one value only, no number; and no base."""
    colour = cell(draw_influence(None, [[value] * 3] * 3), 1, 1)
    assert (colour == WHITE, colour == RED) == (value == 0, value is None)

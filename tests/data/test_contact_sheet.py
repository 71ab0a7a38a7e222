"""What is drawn below a frame."""

import numpy as np

from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.data.contact_sheet import BARS, DOWN, SIDE, UP, active, bars, picture, places


def test_a_bar_is_as_long_as_its_number_and_points_its_way() -> None:
    drawn = bars(np.array([1.0, -0.5, 0.0]))
    half = BARS // 2 - 1
    ups, downs = ((drawn == colour).all(-1) for colour in (UP, DOWN))
    assert ups[:, : SIDE // 3].any(1).sum() == half
    assert not ups[half:].any() and not ups[:, SIDE // 3 + 1 :].any()
    assert downs[:, SIDE // 3 : 2 * SIDE // 3].any(1).sum() == round(half / 2)
    assert not downs[:half].any() and not downs[:, 2 * SIDE // 3 + 1 :].any()


def test_choices_and_keys_are_named() -> None:
    space = ActionSpace(
        (
            ActionPart("stick", "continuous", 1, ("x",)),
            ActionPart("way", "discrete", 2, ("left", "right")),
            ActionPart("keys", "multi_binary", 2, ("fire", "\x1b[2J")),
        )
    )
    assert active(np.array([1, 0, 1, 1, 0], np.float32), space) == "right fire"
    assert "\x1b" not in active(np.array([1, 0, 1, 1, 1], np.float32), space)


def test_frames_of_any_size_are_drawn() -> None:
    for h, w in ((1, 900), (900, 1), (16, 16), (480, 640)):
        drawn = picture(np.full((h, w, 3), 7, np.uint8), np.zeros(3), "text")
        assert drawn.width == SIDE and drawn.height <= 2 * SIDE


def test_frames_are_drawn_in_pairs_of_one_and_the_next() -> None:
    assert places(50, 8) == [0, 1, 16, 17, 32, 33, 48, 49]
    assert places(8, 8) == list(range(8)) and places(1, 8) == [0]
    assert places(9, 8)[:2] == [0, 1] and places(9, 8)[-1] == 8
    for length in range(2, 40):
        for columns in range(1, 12):
            found = places(length, columns)
            assert (
                len(found) <= columns and found == sorted({*found}) and 0 <= found[0] and found[-1] < length
            )

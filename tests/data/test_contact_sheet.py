"""What is drawn below a frame."""

import numpy as np

from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.data.contact_sheet import BARS, DOWN, SIDE, UP, active, bars, picture


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

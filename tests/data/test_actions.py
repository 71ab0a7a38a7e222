"""An index never becomes an amount in silence."""

import numpy as np
import pytest

from v2w_convert.data.actions import ActionPart, ActionSpace, one_hot
from v2w_convert.errors import V2WError

MIXED = ActionSpace(
    (
        ActionPart("move", "discrete", 3, ("stay", "left", "right")),
        ActionPart("keys", "multi_binary", 2, ("jump", "fire")),
        ActionPart("mouse", "continuous", 2, ("dx", "dy")),
    )
)


def test_a_mixed_space() -> None:
    assert MIXED.dim == 7
    assert MIXED.names == ["move=stay", "move=left", "move=right", "jump", "fire", "dx", "dy"]
    assert [(part.name, at) for part, at in MIXED.slices] == [
        ("move", slice(0, 3)), ("keys", slice(3, 5)), ("mouse", slice(5, 7)),
    ]  # fmt: skip
    recorded = np.array([[2, 0, 1, -0.5, 3], [0, 1, 1, 0, 0]])
    encoded = MIXED.encode(recorded, "test")
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[0, 0, 1, 0, 1, -0.5, 3], [1, 0, 0, 1, 1, 0, 0]]


def test_names_of_amounts() -> None:
    space = ActionSpace.continuous(["x", "y"])
    assert (space.dim, space.names, space.parts[0].kind) == (2, ["x", "y"], "continuous")


@pytest.mark.parametrize("index", [-1, 3, 0.5, np.nan, np.inf])
def test_what_is_no_choice_is_refused_with_its_row(index: float) -> None:
    with pytest.raises(V2WError, match="row 1 of 'action': .*, not a choice from 0 to 2"):
        one_hot(np.array([0, index]), 3, "test")


def test_what_does_not_fit_a_space_is_refused() -> None:
    with pytest.raises(V2WError, match=r"row 0 of 'keys': 2, not a key that is 0 or 1"):
        MIXED.encode(np.array([[0, 0, 2, 0, 0]]), "test")
    with pytest.raises(V2WError, match=r"shape \(1, 7\), not \(frames, 5\)"):
        MIXED.encode(np.zeros((1, 7)), "test")
    with pytest.raises(V2WError, match="1 labels for 2 numbers"):
        ActionPart("x", "continuous", 2, ("x",))

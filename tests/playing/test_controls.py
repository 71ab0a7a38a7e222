"""What the numbers of an action are for a visitor."""

from pathlib import Path

import numpy as np
import pytest

from v2w_convert.data import Episode, write_dataset
from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.data.open import open_dataset
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError
from v2w_convert.playing.controls import Controls, controls_of, keys_of


def some_data(folder: Path, actions: list[list[float]], names: list[str]) -> Path:
    frames = np.zeros((len(actions), 16, 16, 3), np.uint8)
    write_dataset([Episode(frames, np.asarray(actions, np.float32))], folder, fps=5, action_names=names)
    return folder


@pytest.mark.parametrize(
    ("actions", "kind"),
    [
        ([[1, 0], [0, 1], [1, 0]], "discrete"),
        ([[1, 1], [0, 1], [0, 0]], "multi_binary"),
        ([[1, 0.5], [0, 1], [0, 0]], "continuous"),
    ],
)
def test_amounts_that_are_only_0_or_1_are_keys_or_choices(
    tmp_path: Path, actions: list[list[float]], kind: str
) -> None:
    found = controls_of(open_dataset(some_data(tmp_path / "data", actions, ["left", "right"])))
    assert [part.kind for part in found.parts.parts] == [kind]
    assert len(found.action(found.resting())) == 2


def test_an_action_is_repeated_by_the_stride(tmp_path: Path) -> None:
    data = some_data(tmp_path / "data", [[0.5], [1], [2], [3]], ["gas"])
    found = controls_of(open_dataset(data, DataSettings(stride=2)))
    assert found.parts.names == ["gas"]
    assert found.action([1.5]).tolist() == [1.5, 1.5]


def test_what_is_no_action_is_refused() -> None:
    space = ActionSpace(
        (
            ActionPart("turn", "discrete", 3, ("noop", "left", "right")),
            ActionPart("keys", "multi_binary", 2, ("fire", "jump")),
            ActionPart("gas", "continuous", 1, ("gas",)),
        )
    )
    ends = np.asarray([0, 0, 0, 0, 0, -1], np.float32), np.asarray([1, 1, 1, 1, 1, 2], np.float32)
    controls = Controls(space, 1, *ends)
    assert controls.rests
    assert controls.action([2, 1, 0, -0.5]).tolist() == [0, 0, 1, 1, 0, -0.5]
    assert controls.action(controls.resting()).tolist() == [1, 0, 0, 0, 0, 0]
    for wrong in ([3, 0, 0, 0], [0.5, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 2.1], [0, 0, 0], [0] * 5, []):
        with pytest.raises(V2WError):
            controls.action(wrong)


def test_a_choice_without_one_that_does_nothing() -> None:
    parts = ActionSpace((ActionPart("turn", "discrete", 2, ("left", "right")),))
    assert not Controls(parts, 1, np.zeros(2, np.float32), np.ones(2, np.float32)).rests


def test_keys_go_by_names_and_no_key_is_given_twice() -> None:
    labels = ("turn_left", "turn_right", "move_forward", "move_left", "attack", "zoom", "jump", "other")
    space = ActionSpace((ActionPart("keys", "multi_binary", len(labels), labels),))
    expected = ["ArrowLeft", "ArrowRight", "ArrowUp", "KeyA", "Space", "Digit1", "Enter", "Digit2"]
    assert keys_of(space) == expected
    many = tuple(f"choice_{i}" for i in range(60))
    found = [key for key in keys_of(ActionSpace((ActionPart("a", "discrete", 60, many),))) if key]
    assert len(found) == len(set(found)) > 20
    assert not {"KeyP", "KeyR", "KeyB", "KeyN"} & set(found)  # the page's own

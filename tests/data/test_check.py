"""All actions are read and checked before the first frame is."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from v2w_convert.data import Dataset, Episode
from v2w_convert.data.check import MAX_FAULTS, MAX_TOLD, left_out, read_ranges, require_sound, told
from v2w_convert.errors import V2WError


class Actions(Dataset):
    """A data set whose frames nobody may ask for."""

    fps = 10.0
    cameras: ClassVar[list[str]] = ["only"]
    action_names: ClassVar[list[str]] = ["x", "y"]

    def __init__(self, actions: list[NDArray[np.float32]], lengths: list[int] | None = None):
        self.path, self.camera, self.given = Path("somewhere"), "only", actions
        self._lengths = [len(each) for each in actions] if lengths is None else lengths

    @property
    def lengths(self) -> list[int]:
        return self._lengths

    def actions(self) -> Iterator[NDArray[np.float32]]:
        yield from self.given

    def episodes(self) -> Iterator[Episode]:
        raise AssertionError("frames are decoded")

    def fingerprint(self) -> str:
        return "0" * 64


def drawn(*lengths: int) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [generator.normal(1000, 2, (t, 2)).astype(np.float32) for t in lengths]


def test_ranges_are_of_the_actions_that_lead_to_a_frame() -> None:
    actions = drawn(5, 1, 9)
    found = require_sound(Actions(actions), "finetune")
    joined = np.concatenate([each[:-1] for each in actions]).astype(np.float64)
    assert found.count == len(joined) == 12
    for name, value in {
        "low": joined.min(0), "high": joined.max(0), "mean": joined.mean(0), "std": joined.std(0)
    }.items():  # fmt: skip
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12)
    assert not told(found)


def test_numbers_that_never_change_are_told() -> None:
    actions = drawn(4, 4)
    for each in actions:
        each[:-1, 1] = 0.1
        each[-1, 1] = 7  # it leads nowhere
    found = require_sound(Actions(actions), "finetune")
    assert found.std[1] == 0 and found.constant == ["y"]
    assert told(found) == ["1 of the 2 numbers of an action never changes: 'y'"]


def test_all_faults_are_told_with_episode_and_row() -> None:
    actions = drawn(4, 4, 4, 4)
    actions[1][2, 1] = np.nan
    actions[3][1:, 0] = np.inf
    actions[2] = actions[2][:3]
    data = Actions(actions, [4, 4, 4, 4])
    with pytest.raises(V2WError) as caught:
        require_sound(data, "finetune on somewhere")
    assert caught.value.found == (
        "episode 1, row 2: 'y' is nan; episode 2 has actions of shape (3, 2), not (4, 2); "
        "episode 3, row 1: 'x' is inf, the first of 3 such rows"
    )
    assert "it has actions of 4 episodes and lengths of 5" in read_ranges(Actions(actions, [4] * 5)).faults


def test_of_many_faults_the_first_are_told_and_the_others_counted() -> None:
    actions = drawn(*[3] * (MAX_FAULTS + 5))
    for each in actions:
        each[0, 0] = np.nan
    faults = read_ranges(Actions(actions)).all_faults()
    assert len(faults) == MAX_FAULTS + 1 and faults[-1] == "and 5 more"


def test_without_an_action_that_leads_to_a_frame_there_is_nothing_to_learn() -> None:
    with pytest.raises(V2WError, match="no episode has two frames"):
        require_sound(Actions(drawn(1, 1)), "finetune")


def test_what_is_not_used_is_told() -> None:
    class Cut(Actions):
        faults: ClassVar[list[str]] = [f"episode {i} is cut" for i in range(MAX_TOLD + 3)]

    notes = left_out(Cut(drawn(4, 4)))
    assert notes[0] == "episode 0 is cut" and len(notes) == MAX_TOLD + 1
    assert notes[-1] == "… and 3 more like these"

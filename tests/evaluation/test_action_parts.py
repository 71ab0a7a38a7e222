import torch

from v2w_convert.data.actions import ActionPart, ActionSpace
from v2w_convert.evaluation.action_parts import MeasuredPart, parts_of


def test_what_is_declared_is_kept_and_amounts_are_looked_at() -> None:
    actions = torch.tensor([[1, 0, 0, 1, 0.5, 1], [0, 1, 1, 1, 0.2, 0], [0, 1, 1, 0, 0.1, 0.0]])
    space = ActionSpace(
        (
            ActionPart("move", "discrete", 2, ("a", "b")),
            ActionPart("keys", "multi_binary", 2, ("c", "d")),
            ActionPart("stick", "continuous", 2, ("x", "x")),
        )
    )
    assert parts_of(space, actions) == [
        MeasuredPart("move", "discrete", 0, 2),
        MeasuredPart("c", "multi_binary", 2),
        MeasuredPart("d", "multi_binary", 3),
        MeasuredPart("x", "continuous", 4),
        MeasuredPart("x (2)", "multi_binary", 5),  # declared as an amount, only 0 or 1
    ]
    choice = torch.eye(3)[[0, 2, 1, 1]]
    amounts = ActionSpace.continuous("abc")
    assert parts_of(amounts, choice) == [MeasuredPart("action", "discrete", 0, 3)]
    assert [x.kind for x in parts_of(amounts, choice.clamp(max=0.9))] == ["continuous"] * 3


def test_one_part_changes_alone() -> None:
    actions = torch.tensor([[0, 1, 1, 5.0], [1, 0, 0, -5.0]])
    mean, deviation = torch.zeros(4), torch.full((4,), 2.0)

    def changed(part: MeasuredPart) -> list[list[float]]:
        found: list[list[float]] = part.changed(actions, mean, deviation).tolist()
        return found

    assert changed(MeasuredPart("move", "discrete", 0, 2)) == [[1, 0, 1, 5], [0, 1, 0, -5]]
    assert changed(MeasuredPart("key", "multi_binary", 2)) == [[0, 1, 0, 5], [1, 0, 1, -5]]
    assert changed(MeasuredPart("stick", "continuous", 3)) == [[0, 1, 1, 3], [1, 0, 0, -3]]
    assert MeasuredPart("key", "multi_binary", 2).varies(actions)
    assert not MeasuredPart("key", "multi_binary", 2).varies(actions[:1].expand(4, -1))

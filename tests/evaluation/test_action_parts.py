import torch

from v2w_convert.evaluation.action_parts import ActionPart, parts_of


def test_what_is_declared_is_kept_and_amounts_are_looked_at() -> None:
    actions = torch.tensor([[1, 0, 0, 1, 0.5, 1], [0, 1, 1, 1, 0.2, 0], [0, 1, 1, 0, 0.1, 0.0]])
    space = [("move", "discrete", "ab"), ("keys", "multi_binary", "cd"), ("stick", "continuous", "xy")]
    assert parts_of(space, actions) == [
        ActionPart("move", "discrete", 0, 2),
        ActionPart("c", "multi_binary", 2),
        ActionPart("d", "multi_binary", 3),
        ActionPart("x", "continuous", 4),
        ActionPart("y", "multi_binary", 5),  # declared as an amount, only 0 or 1
    ]
    choice = torch.eye(3)[[0, 2, 1, 1]]
    assert parts_of([("action", "continuous", "abc")], choice) == [ActionPart("action", "discrete", 0, 3)]
    assert [x.kind for x in parts_of([("a", "continuous", "abc")], choice.clamp(max=0.9))] == ["continuous"] * 3


def test_one_part_changes_alone() -> None:
    actions = torch.tensor([[0, 1, 1, 5.0], [1, 0, 0, -5.0]])
    mean, deviation = torch.zeros(4), torch.full((4,), 2.0)

    def changed(part: ActionPart) -> list[list[float]]:
        found: list[list[float]] = part.changed(actions, mean, deviation).tolist()
        return found

    assert changed(ActionPart("move", "discrete", 0, 2)) == [[1, 0, 1, 5], [0, 1, 0, -5]]
    assert changed(ActionPart("key", "multi_binary", 2)) == [[0, 1, 0, 5], [1, 0, 1, -5]]
    assert changed(ActionPart("stick", "continuous", 3)) == [[0, 1, 1, 3], [1, 0, 0, -3]]
    assert ActionPart("key", "multi_binary", 2).varies(actions)
    assert not ActionPart("key", "multi_binary", 2).varies(actions[:1].expand(4, -1))

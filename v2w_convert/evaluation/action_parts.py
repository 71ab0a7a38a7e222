"""What an action is made of, as far as figures tell: choices, keys and amounts, each measured in its own way."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from v2w_convert.data.actions import ActionKind, ActionSpace


@dataclass(frozen=True)
class MeasuredPart:
    """Some numbers of an action that belong together.

    Attributes:
        name: What it is called.
        kind: "discrete": one of several choices, one-hot. "multi_binary": a key, 0 or 1. "continuous": an amount.
        start: Its first number.
        size: How many numbers; more than one for choices only.
    """

    name: str
    kind: ActionKind
    start: int
    size: int = 1

    def of(self, actions: Tensor) -> Tensor:
        """This part's numbers (… size) of actions (… a)."""
        return actions[..., self.start : self.start + self.size]

    def varies(self, actions: Tensor) -> bool:
        """Whether actions (n a) differ in this part: what never changes cannot be read from frames."""
        own = self.of(actions)
        return bool((own != own[:1]).any())

    def changed(self, actions: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Actions (… a) with this part changed alone.

        The next choice; the key's other state; an amount moved by one standard deviation towards the mean, and so not out
        of the range of the data.

        Args:
            actions: (… a).
            mean: Of each number (a,).
            deviation: Standard deviation of each number (a,).
        """
        own = self.of(actions)
        if self.kind == "discrete":
            new = own.roll(1, -1)
        elif self.kind == "multi_binary":
            new = 1 - own
        else:
            new = own + torch.where(own > self.of(mean), -1.0, 1.0) * self.of(deviation)
        changed = actions.clone()
        changed[..., self.start : self.start + self.size] = new
        return changed


def parts_of(space: ActionSpace, actions: Tensor) -> list[MeasuredPart]:
    """The parts of an action, each under a name of its own.

    Numbers that the data declares as amounts are measured as what they are: all together as one choice where every row is
    one-hot, a number as a key where it is only 0 or 1.

    Args:
        space: What the data declares.
        actions: Recorded actions (n a).
    """
    found: list[MeasuredPart] = []
    for part in _parts(space, actions):
        same = sum(other.name == part.name for other in found)
        found.append(replace(part, name=f"{part.name} ({same + 1})") if same else part)
    return found


def _parts(space: ActionSpace, actions: Tensor) -> Iterator[MeasuredPart]:
    for part, where in space.slices:
        own = actions[:, where]
        two_states = ((own == 0) | (own == 1)).all(0)
        if part.kind == "discrete" or (part.size > 1 and two_states.all() and (own.sum(1) == 1).all()):
            yield MeasuredPart(part.name, "discrete", where.start, part.size)
        else:
            for i, label in enumerate(part.labels):
                is_key = part.kind == "multi_binary" or bool(two_states[i])
                yield MeasuredPart(label, "multi_binary" if is_key else "continuous", where.start + i)

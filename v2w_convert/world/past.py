"""What a stream has seen: its state, and a finished block that no pass has written into it yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from v2w_convert.sites import State


@dataclass(frozen=True)
class SeenBlock:
    """Frames as the model is shown them as history.

    Attributes:
        latents: (b t c h w), noised to `level`.
        level: (b t).
        actions: (b t a), that led to them; None: they are not known.
    """

    latents: Tensor
    level: Tensor
    actions: Tensor | None


@dataclass(frozen=True)
class Past:
    """What a stream has seen.

    Attributes:
        state: Of the blocks that are written.
        waiting: The block after them, which the next pass writes; None: all are written.
        other: The same frames, noised to another level, which history guidance leads away from; None: not kept.
    """

    state: State
    waiting: SeenBlock | None = None
    other: "Past | None" = None

    @property
    def blocks(self) -> int:
        """How many they are."""
        return int(self.state.cursor) + (self.waiting is not None)

    @property
    def nbytes(self) -> int:
        """Memory of its tensors."""
        tensors = [value for kept in self.state.sites.values() for value in kept.values()]
        if self.waiting is not None:
            tensors.append(self.waiting.latents)
        return sum(value.nbytes for value in tensors) + (0 if self.other is None else self.other.nbytes)

    def rows(self, chosen: Sequence[int]) -> "Past":
        """That of some of the rollouts, copied; one may be there several times. The cursor is still the one of all."""
        index = torch.tensor(chosen, device=self.state.cursor.device)
        return _changed([self], lambda tensors: tensors[0].index_select(0, index))

    def at(self, cursor: Tensor) -> "Past":
        """The same with another cursor: (), of all rollouts, or (b,), of each."""
        other = None if self.other is None else self.other.at(cursor)
        return replace(self, state=self.state._replace(cursor=cursor), other=other)


def join_pasts(pasts: Sequence[Past]) -> Past:
    """That of the rollouts of several, in order.

    All have as many blocks written, or the first's cursor is not the others'; either each has a block that waits, or
    none; their actions are known, or none are; so it is with their other pasts, which all have or none.
    """
    return _changed(pasts, torch.cat)


def are_alike(pasts: Sequence[Past]) -> bool:
    """Whether `join_pasts` takes them, whatever their cursors are."""
    waiting = [past.waiting for past in pasts]
    others = [past.other for past in pasts if past.other is not None]
    kinds = {(block is None, block is not None and block.actions is None) for block in waiting}
    return len(kinds) == 1 and (not others or are_alike(others))


def _changed(pasts: Sequence[Past], change: Callable[[list[Tensor]], Tensor]) -> Past:
    """A past whose tensors are made of those of several."""
    first = pasts[0]
    sites = {
        site: {name: change([past.state.sites[site][name] for past in pasts]) for name in kept}
        for site, kept in first.state.sites.items()
    }
    blocks = [past.waiting for past in pasts if past.waiting is not None]
    waiting = None
    if blocks:
        actions = [block.actions for block in blocks if block.actions is not None]
        waiting = SeenBlock(
            change([block.latents for block in blocks]),
            change([block.level for block in blocks]),
            change(actions) if actions else None,
        )
    others = [past.other for past in pasts if past.other is not None]
    return Past(State(first.state.cursor, sites), waiting, _changed(others, change) if others else None)

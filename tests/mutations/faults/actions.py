"""Which action a frame receives."""

from typing import Any

import torch
from torch import Tensor

from tests.mutations.faults.tools import Fault, change_actions, change_context
from v2w_convert.sites import ForwardContext, Site


def action_one_frame_early(site: Site) -> None:
    """Give each frame the action that comes after it."""
    change_actions(site, lambda actions: actions.flatten(1, 2).roll(-1, 1).view_as(actions))


def action_one_frame_late(site: Site) -> None:
    """Give each frame the action before its own."""
    change_actions(site, lambda actions: actions.flatten(1, 2).roll(1, 1).view_as(actions))


def action_of_other_clip(site: Site) -> None:
    """Give each clip another's actions."""
    change_actions(site, lambda actions: actions.flip(0))


def ignores_actions(site: Site) -> None:
    change_context(site, lambda now: {"actions": None})


def ignores_actions_in_streams(site: Site) -> None:
    """Ignore every action, but only when continuing a stream."""
    change_context(site, lambda now: {"actions": None if now.past is not None else now.actions})


def ignores_number(number: int) -> Fault:
    """Read one number of every action as 0."""

    def change(actions: Tensor) -> Tensor:
        kept = torch.ones(actions.shape[-1], dtype=actions.dtype)
        kept[number] = 0
        return actions * kept

    return lambda site: change_actions(site, change)


def null_action_as_zero(site: Site) -> None:
    """Treat a dropped action as a zero action."""

    def change(now: ForwardContext) -> dict[str, Any]:
        if now.actions is None or now.dropped is None:
            return {}
        return {"actions": now.actions.masked_fill(now.dropped[..., None], 0), "dropped": None}

    change_context(site, change)


def drops_previous_action(site: Site) -> None:
    """Drop the action before the one that is to be dropped."""

    def change(now: ForwardContext) -> dict[str, Any]:
        return {
            "dropped": None
            if now.dropped is None
            else now.dropped.flatten(1).roll(-1, 1).view_as(now.dropped)
        }

    change_context(site, change)


def never_drops_actions(site: Site) -> None:
    change_context(site, lambda now: {"dropped": None})

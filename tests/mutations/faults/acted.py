"""Which actions a frame is told of."""

from typing import Any

from tests.mutations.faults.means import change_actions, forward_under
from v2w_convert.sites import ForwardContext, Site


def acts_early(site: Site) -> None:
    """Give each frame the action that comes after it."""
    change_actions(site, lambda actions: actions.flatten(1, 2).roll(-1, 1).view_as(actions))


def acts_late(site: Site) -> None:
    """Give each frame the action before its own."""
    change_actions(site, lambda actions: actions.flatten(1, 2).roll(1, 1).view_as(actions))


def acts_for_other_clip(site: Site) -> None:
    """Give each clip another's actions."""
    change_actions(site, lambda actions: actions.flip(0))


def heeds_no_action(site: Site) -> None:
    forward_under(site, lambda now: {"actions": None})


def ignores_actions_in_streams(site: Site) -> None:
    """Take every action for none, but only when continuing a stream."""
    forward_under(site, lambda now: {"actions": None if now.past is not None else now.actions})


def null_is_zero(site: Site) -> None:
    """Take a dropped action for the zero action."""

    def change(now: ForwardContext) -> dict[str, Any]:
        if now.actions is None or now.dropped is None:
            return {}
        return {"actions": now.actions.masked_fill(now.dropped[..., None], 0), "dropped": None}

    forward_under(site, change)


def drops_early(site: Site) -> None:
    """Drop the action before the one that is to be dropped."""

    def change(now: ForwardContext) -> dict[str, Any]:
        return {
            "dropped": None
            if now.dropped is None
            else now.dropped.flatten(1).roll(-1, 1).view_as(now.dropped)
        }

    forward_under(site, change)


def never_drops(site: Site) -> None:
    forward_under(site, lambda now: {"dropped": None})

"""Ways to break a world model: each changes one live site."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from v2w_convert.stream import Pass, Site, SiteState


def sees_future(site: Site) -> None:
    """Take the base's form again: both-sided convolution, no mask, statistics over the clip."""
    _forward_under(site, lambda now: {"bidirectional": True})


def forgets_past(site: Site) -> None:
    """Take every frame for a clip of its own."""
    _forward_under(site, lambda now: {"b": now.b * now.t, "t": 1, "past": None})


def mixes_clips(site: Site) -> None:
    """Take the clips of a batch for one."""
    _forward_under(site, lambda now: {"b": 1, "t": now.b * now.t})


def stale(site: Site) -> None:
    """Carry on what was carried in: the stream's state is never renewed."""
    keep = type(site).keep

    def keep_old(self: Site, state: SiteState) -> None:
        keep(self, state if self.past is None else self.past)

    _become(site, keep=keep_old)


def remembers_drafts(site: Site) -> None:
    """Let passes that were not committed change the past, as a buffer written in place would."""
    keep = type(site).keep

    def keep_in_place(self: Site, state: SiteState) -> None:
        if self.past is not None and not self.current.commit:
            for name, value in state.items():
                self.past[name].copy_(value)
        keep(self, state)

    _become(site, keep=keep_in_place)


def one_late_in_streams(site: Site) -> None:
    """Count frames from one, but only when continuing a stream."""
    positions = type(site).positions

    def late(self: Site) -> Tensor:
        return positions(self) + (self.current.past is not None)

    _become(site, positions=late)


def one_late(site: Site) -> None:
    """Count frames from one."""
    positions = type(site).positions
    _become(site, positions=lambda self: positions(self) + 1)


def acts_early(site: Site) -> None:
    """Give each frame the action that comes after it."""
    _forward_under(
        site, lambda now: {"actions": now.actions if now.actions is None else now.actions.roll(-1, 1)}
    )


def acts_late(site: Site) -> None:
    """Give each frame the action before its own."""
    _forward_under(
        site, lambda now: {"actions": now.actions if now.actions is None else now.actions.roll(1, 1)}
    )


def flickers(site: Site) -> None:
    """Give another output each time."""
    forward = type(site).forward

    def noisy(self: Site, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        return output + 1e-6 * torch.randn_like(output)

    _become(site, forward=noisy)


def _forward_under(site: Site, change: Callable[[Pass], dict[str, Any]]) -> None:
    forward = type(site).forward

    def changed(self: Site, *args: Any, **kwargs: Any) -> Any:
        now = self.current
        self.current = replace(now, **change(now))
        try:
            return forward(self, *args, **kwargs)
        finally:
            self.current = now

    _become(site, forward=changed)


def _become(site: Site, **methods: Any) -> None:
    site.__class__ = type(f"Broken{type(site).__name__}", (type(site),), methods)

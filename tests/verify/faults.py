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


def sees_future_if(site: Site, when: Callable[[Pass], bool]) -> None:
    """The same, in some passes only."""
    _forward_under(site, lambda now: {"bidirectional": when(now)})


def sees_future_in_clip(site: Site, clip: int) -> None:
    """The same, in one clip of a batch only."""
    forward = type(site).forward

    def changed(self: Site, x: Tensor) -> Tensor:
        now = self.current
        right = forward(self, x)
        self.current = replace(now, bidirectional=True)
        try:
            wrong = forward(self, x)
        finally:
            self.current = now
        mine = (torch.arange(len(x)) // (len(x) // now.b) == clip).view(-1, *[1] * (x.ndim - 1))
        return torch.where(mine, wrong, right)

    _become(site, forward=changed)


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


def remembers_inputs(site: Site) -> None:
    """Keep something of each call for the next, of whatever clip it is."""
    forward = type(site).forward
    kept = [torch.zeros(())]

    def hidden(self: Site, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        before, kept[0] = kept[0], output.mean().to(torch.float64)
        return output + 1e-3 * before.to(output)

    _become(site, forward=hidden)


def differs_in_training(site: Site) -> None:
    """Give another output where gradients are taken in training mode."""
    forward = type(site).forward

    def other(self: Site, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        return output * (1 + 1e-3) if self.training else output

    _become(site, forward=other)


def loses_its_pass(site: Site) -> None:
    """Be told of the pass for one call only: the backward's second computation gets another."""
    forward = type(site).forward

    def once(self: Site, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        if self.training:
            self.current = replace(self.current, b=self.current.b * self.current.t, t=1)
        return output

    _become(site, forward=once)


def ignores_actions_in_streams(site: Site) -> None:
    """Take every action for none, but only when continuing a stream."""
    _forward_under(site, lambda now: {"actions": None if now.past is not None else now.actions})


def stale_in_drafts(site: Site) -> None:
    """See a past of zeros in passes that are not committed."""

    def forgotten(now: Pass) -> dict[str, Any]:
        if now.past is None or now.commit:
            return {}
        return {
            "past": {s: {k: torch.zeros_like(x) for k, x in kept.items()} for s, kept in now.past.items()}
        }

    _forward_under(site, forgotten)


def forgets_after(site: Site, blocks: int) -> None:
    """Stop renewing the stream's state after so many blocks."""
    keep = type(site).keep

    def until(self: Site, state: SiteState) -> None:
        late = self.past is not None and int(self.current.cursor) >= blocks
        keep(self, self.past if late and self.past is not None else state)

    _become(site, keep=until)


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

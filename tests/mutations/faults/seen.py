"""Which frames, clips and words a module sees."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.mutations.faults.means import SLIGHT, Layout, become, change_mask, change_output, forward_under
from v2w_convert.sites import ForwardContext, Site
from v2w_convert.world.model import World


def sees_future(site: Site) -> None:
    """Take the base's form again: both-sided convolution, no mask, statistics over the clip."""
    forward_under(site, lambda now: {"bidirectional": True})


def sees_future_if(site: Site, when: Callable[[ForwardContext], bool]) -> None:
    """The same, in some passes only."""
    forward_under(site, lambda now: {"bidirectional": when(now)})


def sees_future_in_clip(site: Site, clip: int) -> None:
    """The same, in one clip of a batch only."""
    forward = type(site).forward

    def changed(self: Site, x: Tensor) -> Tensor:
        now = self.context
        right = forward(self, x)
        self.context = replace(now, bidirectional=True)
        try:
            wrong = forward(self, x)
        finally:
            self.context = now
        mine = (torch.arange(len(x)) // (len(x) // now.b) == clip).view(-1, *[1] * (x.ndim - 1))
        return torch.where(mine, wrong, right)

    become(site, forward=changed)


def forgets_past(site: Site) -> None:
    """Take every frame for a clip of its own."""
    forward_under(site, lambda now: {"b": now.b * now.t, "t": 1, "past": None})


def all_forget(world: World) -> None:
    fields = world.receptive_fields()
    for name, site in world.sites.items():
        if fields[name].sees_past:
            forgets_past(site)


def forgets_stream(site: Site) -> None:
    """Take every pass for the beginning of a clip."""
    forward_under(site, lambda now: {"past": None})


def mixes_clips(site: Site) -> None:
    """Take the clips of a batch for one; not in streams, whose state could not be of one clip."""
    forward_under(site, lambda now: {"b": 1, "t": now.b * now.t} if now.past is None else {})


def never_installed(site: Site) -> None:
    """Be the base's module again, on folded frames."""
    site.__class__ = type(site).__bases__[1]


def one_frame_too_many(site: Site) -> None:
    """An attention whose mask lets each frame see the next one."""

    def change(mask: Tensor, seen: "Layout") -> None:
        own = seen.own(mask)
        for t in range(seen.t - 1):
            own[:, t, :, t + 1] = True

    change_mask(site, change)


def blind_to_itself(site: Site) -> None:
    """An attention in which only the first frame sees itself."""

    def change(mask: Tensor, seen: "Layout") -> None:
        own = seen.own(mask)
        for t in range(1, seen.t):
            own[:, t, :, t] = False

    change_mask(site, change)


def blind_to_last(site: Site) -> None:
    """An attention in which no frame sees the one right before it."""

    def change(mask: Tensor, seen: "Layout") -> None:
        own = seen.own(mask)
        for t in range(1, seen.t):
            own[:, t, :, t - 1] = False

    change_mask(site, change)


def text_sees_all(site: Site) -> None:
    """A joint attention in which the text's rows see every frame's video."""

    def change(mask: Tensor, seen: "Layout") -> None:
        seen.own(mask)[:, :, seen.text_rows] = True

    change_mask(site, change)


def text_sees_text(site: Site) -> None:
    """A joint attention in which each frame sees the text of all frames, which have seen those frames."""

    def change(mask: Tensor, seen: "Layout") -> None:
        mask[..., : seen.t * seen.l_text] = True

    change_mask(site, change)


def longer_window(site: Any) -> None:
    site.window += 1


def shorter_window(site: Any) -> None:
    site.window -= 1


def no_sinks(site: Any) -> None:
    site.sinks = 0


def leaks(module: nn.Module) -> None:
    """Any module on folded frames: let a little of the next frame's output into each one's."""

    def mixed(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each + SLIGHT * each.roll(-1, 1)).flatten(0, 1)

    change_output(module, mixed)


def leaks_text(module: nn.Module) -> None:
    """A cross-attention: let a little of the next frame's prompt into each one's."""
    forward = type(module).forward

    def mixed(self: Any, *args: Any, **kwargs: Any) -> Any:
        now = self.context
        frames, text = args[:2] if len(args) > 1 else (args[0], kwargs.pop("encoder_hidden_states"))
        each = text.unflatten(0, (now.b, now.t))
        return forward(self, frames, (each + SLIGHT * each.roll(-1, 1)).flatten(0, 1), *args[2:], **kwargs)

    become(module, forward=mixed)


def normalises_clip(module: nn.Module) -> None:
    """Any module on folded frames: take from each frame's output a little of the mean over the clip, as a norm would."""

    def less(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each - SLIGHT * each.mean(1, keepdim=True)).flatten(0, 1)

    change_output(module, less)


def normalises_batch(module: nn.Module) -> None:
    """Any module on folded frames: take from each a little of the mean over the clips of the batch."""

    def less(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each - SLIGHT * each.mean(0, keepdim=True)).flatten(0, 1)

    change_output(module, less)

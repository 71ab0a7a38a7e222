"""Which frames, clips and text tokens a module sees."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.mutations.faults.tools import (
    SLIGHT,
    Layout,
    change_context,
    change_mask,
    change_output,
    override_methods,
)
from v2w_convert.sites import ForwardContext, Site
from v2w_convert.world.model import World


def sees_future(site: Site) -> None:
    """Use the bidirectional form: symmetric convolution, no mask, statistics over the clip."""
    change_context(site, lambda now: {"bidirectional": True})


def sees_future_if(site: Site, when: Callable[[ForwardContext], bool]) -> None:
    """The same, in some passes only."""
    change_context(site, lambda now: {"bidirectional": when(now)})


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

    override_methods(site, forward=changed)


def forgets_past(site: Site) -> None:
    """Treat every frame as a clip of its own."""
    change_context(site, lambda now: {"b": now.b * now.t, "t": 1, "past": None})


def all_sites_forget_past(world: World) -> None:
    fields = world.receptive_fields()
    for name, site in world.sites.items():
        if fields[name].sees_past:
            forgets_past(site)


def ignores_stream_state(site: Site) -> None:
    """Treat every pass as the start of a clip."""
    change_context(site, lambda now: {"past": None})


def mixes_clips(site: Site) -> None:
    """Treat the clips of a batch as one clip; not in streams, whose state is per clip."""
    change_context(site, lambda now: {"b": 1, "t": now.b * now.t} if now.past is None else {})


def not_installed(site: Site) -> None:
    """Be the base's module again, on folded frames."""
    site.__class__ = type(site).__bases__[1]


def mask_one_frame_too_far(site: Site) -> None:
    """An attention whose mask lets each frame see the next one."""

    def change(mask: Tensor, seen: "Layout") -> None:
        own = seen.own(mask)
        for t in range(seen.t - 1):
            own[:, t, :, t + 1] = True

    change_mask(site, change)


def blind_to_own_frame(site: Site) -> None:
    """An attention in which only the first frame sees itself."""

    def change(mask: Tensor, seen: "Layout") -> None:
        own = seen.own(mask)
        for t in range(1, seen.t):
            own[:, t, :, t] = False

    change_mask(site, change)


def blind_to_previous_frame(site: Site) -> None:
    """An attention in which no frame sees the one right before it."""

    def change(mask: Tensor, seen: "Layout") -> None:
        own = seen.own(mask)
        for t in range(1, seen.t):
            own[:, t, :, t - 1] = False

    change_mask(site, change)


def text_sees_all_frames(site: Site) -> None:
    """A joint attention in which the text's rows see every frame's video."""

    def change(mask: Tensor, seen: "Layout") -> None:
        seen.own(mask)[:, :, seen.text_rows] = True

    change_mask(site, change)


def frames_see_text_of_all_frames(site: Site) -> None:
    """A joint attention in which each frame sees the text of all frames, which has seen those frames."""

    def change(mask: Tensor, seen: "Layout") -> None:
        mask[..., : seen.t * seen.l_text] = True

    change_mask(site, change)


def longer_window(site: Any) -> None:
    site.window += 1


def shorter_window(site: Any) -> None:
    site.window -= 1


def no_sinks(site: Any) -> None:
    site.sinks = 0


def leaks_next_frame(module: nn.Module) -> None:
    """Any module on folded frames: add a little of the next frame's output to each one."""

    def mixed(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each + SLIGHT * each.roll(-1, 1)).flatten(0, 1)

    change_output(module, mixed)


def leaks_next_prompt(module: nn.Module) -> None:
    """A cross-attention: add a little of the next frame's prompt to each one."""
    forward = type(module).forward

    def mixed(self: Any, *args: Any, **kwargs: Any) -> Any:
        now = self.context
        frames, text = args[:2] if len(args) > 1 else (args[0], kwargs.pop("encoder_hidden_states"))
        each = text.unflatten(0, (now.b, now.t))
        return forward(self, frames, (each + SLIGHT * each.roll(-1, 1)).flatten(0, 1), *args[2:], **kwargs)

    override_methods(module, forward=mixed)


def normalises_over_clip(module: nn.Module) -> None:
    """Any module on folded frames: subtract a little of the mean over the clip, as a norm would."""

    def less(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each - SLIGHT * each.mean(1, keepdim=True)).flatten(0, 1)

    change_output(module, less)


def normalises_over_batch(module: nn.Module) -> None:
    """Any module on folded frames: subtract a little of the mean over the clips of the batch."""

    def less(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each - SLIGHT * each.mean(0, keepdim=True)).flatten(0, 1)

    change_output(module, less)

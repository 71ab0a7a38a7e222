"""What is carried from block to block."""

from dataclasses import replace
from typing import Any

import torch

from tests.mutations.faults.tools import Fault, change_commit, change_context, override_methods
from v2w_convert.sites import ForwardContext, Site, SiteState


def state_never_updated(site: Site) -> None:
    """Commit the old state: the stream state is never updated."""
    change_commit(site, lambda site, past, present: past)


def entry_never_updated(name: str) -> Fault:
    """The same for one tensor of the state."""
    return lambda site: change_commit(site, lambda _, past, present: present | {name: past[name]})


def state_shifted(site: Site) -> None:
    """Commit everything shifted by one frame."""

    def change(site: Any, past: SiteState, present: SiteState) -> SiteState:
        found = dict(present)
        for name, x in present.items():
            if name == "inputs":
                found[name] = x.roll(1, 2)
            elif x.ndim == 6:
                found[name] = x.roll(1, 3)
            elif name == "products":
                found[name] = site.rotary.rotate(x.unsqueeze(-3), torch.ones(1)).squeeze(-3)
        return found

    change_commit(site, change)


def newest_frame_missing(site: Site) -> None:
    """Commit zeros for the newest frame; zeros for all sums."""

    def change(site: Any, past: SiteState, present: SiteState) -> SiteState:
        found = {}
        last = site.context.cursor + site.context.t - 1
        for name, x in present.items():
            x = x.clone()
            if name == "inputs":
                x[:, :, -1] = 0
            elif x.ndim == 6 and not name.startswith("sink"):
                x.select(3, int(last % x.shape[3])).zero_()
            elif x.ndim != 6:
                x.zero_()
            found[name] = x
        return found

    change_commit(site, change)


def last_block_committed_twice(site: Site) -> None:
    """Commit the last block twice."""

    def change(site: Any, past: SiteState, present: SiteState) -> SiteState:
        found = {}
        next_one = site.context.cursor + site.context.t
        for name, x in present.items():
            if name == "inputs":
                found[name] = torch.cat([x[:, :, 1:], x[:, :, -1:]], 2)
            elif x.ndim == 6 and not name.startswith("sink"):
                slots = x.shape[3]
                found[name] = x.clone()
                found[name][:, :, :, int(next_one % slots)] = x[:, :, :, int((next_one - 1) % slots)]
            else:
                found[name] = x if x.ndim == 6 else 2 * x - past[name]
        return found

    change_commit(site, change)


def states_of_clips_swapped(site: Site) -> None:
    """Swap the states of the clips."""
    change_commit(site, lambda site, past, present: {name: x.flip(0) for name, x in present.items()})


def keeps_uncommitted_passes(site: Site) -> None:
    """Let uncommitted passes change the state, as a buffer written in place would."""
    forward = type(site).forward

    def in_place(self: Site, *args: Any, **kwargs: Any) -> Any:
        now = self.context
        if now.past is None or now.commit:
            return forward(self, *args, **kwargs)
        self.context = replace(now, commit=True, new_states={})
        output = forward(self, *args, **kwargs)
        for name, value in self.context.new_states[self.site_name].items():
            now.past[self.site_name][name].copy_(value)
        self.context = now
        return output

    override_methods(site, forward=in_place)


def no_past_in_uncommitted_passes(site: Site) -> None:
    """See a state of zeros in uncommitted passes."""

    def forgotten(now: ForwardContext) -> dict[str, Any]:
        if now.past is None or now.commit:
            return {}
        return {
            "past": {s: {k: torch.zeros_like(x) for k, x in kept.items()} for s, kept in now.past.items()}
        }

    change_context(site, forgotten)


def state_not_updated_after(site: Site, blocks: int) -> None:
    """Stop updating the stream state after so many blocks."""
    keep = type(site).keep

    def until(self: Site, state: SiteState) -> None:
        late = self.past is not None and int(self.context.cursor) >= blocks
        keep(self, self.past if late and self.past is not None else state)

    override_methods(site, keep=until)


def commits_in_place(site: Site) -> None:
    """Write a committed block into the given state, which a branch of the rollout may share."""

    def change(site: Any, past: SiteState, present: SiteState) -> SiteState:
        for name, value in present.items():
            past[name].copy_(value)
        return present

    change_commit(site, change)

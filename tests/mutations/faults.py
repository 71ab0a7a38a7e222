"""Ways to break a world model while it runs: each changes one live module, or the world around the modules.

Faults of one module are functions of it, and can be made rarer: `only(fault, where it happens)`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from v2w_convert.stream import Pass, Site, SiteState
from v2w_convert.world.model import World

Fault = Callable[[Any], None]  # of a module
Broken = Callable[[World], None]  # of a world
SLIGHT = 1e-3


@contextmanager
def broken(fault: Broken) -> Iterator[None]:
    """Every world that is made within it is broken, the base in its folded form included: as by a fault in the code."""
    made = World.__init__

    def init(self: World, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        fault(self)

    World.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        World.__init__ = made  # type: ignore[method-assign]


def at(name: str, fault: Fault) -> Broken:
    """The fault at one module, be it a site or not."""

    def broken_then(world: World) -> None:
        module = world.base.get_submodule(name)
        if not isinstance(module, Site):  # it is not told of the pass
            told = next(iter(world.sites.values()))
            _become(module, current=property(lambda self: told.current))
        fault(module)

    return broken_then


# --------------------------------------------------------------------------------------------- which frames a site sees


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


def all_forget(world: World) -> None:
    for name, site in world.sites.items():
        if world.resolved.sites[name].sees_past():
            forgets_past(site)


def forgets_stream(site: Site) -> None:
    """Take every pass for the beginning of a clip."""
    _forward_under(site, lambda now: {"past": None})


def mixes_clips(site: Site) -> None:
    """Take the clips of a batch for one; not in streams, whose state could not be of one clip."""
    _forward_under(site, lambda now: {"b": 1, "t": now.b * now.t} if now.past is None else {})


def never_installed(site: Site) -> None:
    """Be the base's module again, on folded frames."""
    site.__class__ = type(site).__bases__[1]


def one_frame_too_many(site: Site) -> None:
    """An attention whose mask lets each frame see the next one."""

    def change(mask: Tensor, seen: "_Layout") -> None:
        own = seen.own(mask)
        for t in range(seen.t - 1):
            own[:, t, :, t + 1] = True

    _masked(site, change)


def blind_to_itself(site: Site) -> None:
    """An attention in which only the first frame sees itself."""

    def change(mask: Tensor, seen: "_Layout") -> None:
        own = seen.own(mask)
        for t in range(1, seen.t):
            own[:, t, :, t] = False

    _masked(site, change)


def blind_to_last(site: Site) -> None:
    """An attention in which no frame sees the one right before it."""

    def change(mask: Tensor, seen: "_Layout") -> None:
        own = seen.own(mask)
        for t in range(1, seen.t):
            own[:, t, :, t - 1] = False

    _masked(site, change)


def text_sees_all(site: Site) -> None:
    """A joint attention in which the text's rows see every frame's video."""

    def change(mask: Tensor, seen: "_Layout") -> None:
        seen.own(mask)[:, :, seen.text_rows] = True

    _masked(site, change)


def text_sees_text(site: Site) -> None:
    """A joint attention in which each frame sees the text of all frames, which have seen those frames."""

    def change(mask: Tensor, seen: "_Layout") -> None:
        mask[..., : seen.t * seen.l_text] = True

    _masked(site, change)


def longer_window(site: Any) -> None:
    site.window += 1


def shorter_window(site: Any) -> None:
    site.window -= 1


def no_sinks(site: Any) -> None:
    site.sinks = 0


def leaks(module: nn.Module) -> None:
    """Any module on folded frames: let a little of the next frame's output into each one's."""

    def mixed(self: nn.Module, x: Tensor, now: Pass) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each + SLIGHT * each.roll(-1, 1)).flatten(0, 1)

    _after(module, mixed)


def leaks_text(module: nn.Module) -> None:
    """A cross-attention: let a little of the next frame's prompt into each one's."""
    forward = type(module).forward

    def mixed(self: Any, *args: Any, **kwargs: Any) -> Any:
        now = self.current
        frames, text = args[:2] if len(args) > 1 else (args[0], kwargs.pop("encoder_hidden_states"))
        each = text.unflatten(0, (now.b, now.t))
        return forward(self, frames, (each + SLIGHT * each.roll(-1, 1)).flatten(0, 1), *args[2:], **kwargs)

    _become(module, forward=mixed)


def normalises_clip(module: nn.Module) -> None:
    """Any module on folded frames: take from each frame's output a little of the mean over the clip, as a norm would."""

    def less(self: nn.Module, x: Tensor, now: Pass) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each - SLIGHT * each.mean(1, keepdim=True)).flatten(0, 1)

    _after(module, less)


def normalises_batch(module: nn.Module) -> None:
    """Any module on folded frames: take from each a little of the mean over the clips of the batch."""

    def less(self: nn.Module, x: Tensor, now: Pass) -> Tensor:
        each = x.unflatten(0, (now.b, now.t))
        return (each - SLIGHT * each.mean(0, keepdim=True)).flatten(0, 1)

    _after(module, less)


# ------------------------------------------------------------------------------------------------ what a convolution does


def holds_or_not(site: Any) -> None:
    """A convolution with something else before the first frame."""
    site.hold = not site.hold


def reads_late(site: Any) -> None:
    """A convolution that reads frame t-1 and before."""
    forward = type(site).forward

    def late(self: Any, *args: Any, **kwargs: Any) -> Any:
        own = self.weight
        self.weight = nn.Parameter(own.roll(-1, 2), requires_grad=False)
        try:
            return forward(self, *args, **kwargs)
        finally:
            self.weight = own

    _become(site, forward=late)


# -------------------------------------------------------------------------------------------------------- what is carried


def stale(site: Site) -> None:
    """Carry on what was carried in: the stream's state is never renewed."""
    _committing(site, lambda site, past, present: past)


def stale_entry(name: str) -> Fault:
    """The same for one of the tensors that are carried."""
    return lambda site: _committing(site, lambda _, past, present: present | {name: past[name]})


def shifted(site: Site) -> None:
    """Carry everything one frame out of place."""

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

    _committing(site, change)


def misses_newest(site: Site) -> None:
    """Carry nothing in the newest frame's place; of sums, nothing at all."""

    def change(site: Any, past: SiteState, present: SiteState) -> SiteState:
        found = {}
        last = site.current.cursor + site.current.t - 1
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

    _committing(site, change)


def commits_twice(site: Site) -> None:
    """Commit the last block twice."""

    def change(site: Any, past: SiteState, present: SiteState) -> SiteState:
        found = {}
        next_one = site.current.cursor + site.current.t
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

    _committing(site, change)


def exchanges_clips(site: Site) -> None:
    """Carry each clip's state for another."""
    _committing(site, lambda site, past, present: {name: x.flip(0) for name, x in present.items()})


def remembers_drafts(site: Site) -> None:
    """Let passes that were not committed change the past, as a buffer written in place would."""
    forward = type(site).forward

    def in_place(self: Site, *args: Any, **kwargs: Any) -> Any:
        now = self.current
        if now.past is None or now.commit:
            return forward(self, *args, **kwargs)
        self.current = replace(now, commit=True, present={})
        output = forward(self, *args, **kwargs)
        for name, value in self.current.present[self.site_name].items():
            now.past[self.site_name][name].copy_(value)
        self.current = now
        return output

    _become(site, forward=in_place)


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


def commits_in_place(site: Site) -> None:
    """Write a committed block into the state that was given, which a branch of the rollout may hold, too."""

    def change(site: Any, past: SiteState, present: SiteState) -> SiteState:
        for name, value in present.items():
            past[name].copy_(value)
        return present

    _committing(site, change)


# -------------------------------------------------------------------------------------------------------------- positions


def one_late(site: Site) -> None:
    """Count frames from one."""
    positions = type(site).positions
    _become(site, positions=lambda self: positions(self) + 1)


def one_late_in_streams(site: Site) -> None:
    """Count frames from one, but only when continuing a stream."""
    positions = type(site).positions
    _become(site, positions=lambda self: positions(self) + (self.current.past is not None))


def stands_still(site: Site) -> None:
    """Count every frame as the first."""
    positions = type(site).positions
    _become(site, positions=lambda self: 0 * positions(self))


def ignores_offset(site: Site) -> None:
    """Take no notice of where finetuning says that a clip begins."""
    _forward_under(site, lambda now: {"offset": None})


def wrong_offset(site: Site) -> None:
    """Be one frame off where finetuning says that a clip begins."""
    _forward_under(site, lambda now: {"offset": None if now.offset is None else now.offset + 1})


def wrong_period(site: Any) -> None:
    site.period -= 1


def wrong_frequencies(site: Any) -> None:
    """Turn queries and keys a little too fast."""
    rotary = site.rotary
    _rotary(site, rotary.model_copy(update={"scale": 1.01 * rotary.scale}))


def no_rotation(site: Any) -> None:
    """Turn nothing by time."""
    _become(site, _turned=lambda self, x, *blocks: x)


def wrong_frequencies_causally(site: Any) -> None:
    """Turn queries and keys a little too fast, but not in the form in which the base is compared."""
    turned = type(site)._turned
    fast = site.rotary.model_copy(update={"scale": 1.01 * site.rotary.scale})

    def changed(self: Any, x: Tensor, *blocks: Tensor) -> Tensor:
        own = self.rotary
        if own is not None and not self.current.bidirectional:
            self.rotary = fast
        try:
            return turned(self, x, *blocks)
        finally:
            self.rotary = own

    _become(site, _turned=changed)


# ---------------------------------------------------------------------------------------------------------------- actions


def acts_early(site: Site) -> None:
    """Give each frame the action that comes after it."""
    _actions(site, lambda actions: actions.flatten(1, 2).roll(-1, 1).view_as(actions))


def acts_late(site: Site) -> None:
    """Give each frame the action before its own."""
    _actions(site, lambda actions: actions.flatten(1, 2).roll(1, 1).view_as(actions))


def acts_for_other_clip(site: Site) -> None:
    """Give each clip another's actions."""
    _actions(site, lambda actions: actions.flip(0))


def heeds_no_action(site: Site) -> None:
    _forward_under(site, lambda now: {"actions": None})


def ignores_actions_in_streams(site: Site) -> None:
    """Take every action for none, but only when continuing a stream."""
    _forward_under(site, lambda now: {"actions": None if now.past is not None else now.actions})


def null_is_zero(site: Site) -> None:
    """Take a dropped action for the zero action."""

    def change(now: Pass) -> dict[str, Any]:
        if now.actions is None or now.dropped is None:
            return {}
        return {"actions": now.actions.masked_fill(now.dropped[..., None], 0), "dropped": None}

    _forward_under(site, change)


def drops_early(site: Site) -> None:
    """Drop the action before the one that is to be dropped."""

    def change(now: Pass) -> dict[str, Any]:
        return {
            "dropped": None
            if now.dropped is None
            else now.dropped.flatten(1).roll(-1, 1).view_as(now.dropped)
        }

    _forward_under(site, change)


def never_drops(site: Site) -> None:
    _forward_under(site, lambda now: {"dropped": None})


# -------------------------------------------------------------------------------------------------- between two passes


def flickers(module: nn.Module) -> None:
    """Give another output each time."""
    _after(module, lambda self, x, now: x + 1e-6 * torch.randn_like(x))


def remembers_inputs(module: nn.Module) -> None:
    """Let a little of what was given at the last call, whatever that was, into this one."""
    before: list[Tensor] = []

    def leak(self: nn.Module, x: Tensor, now: Pass) -> Tensor:
        left = before.pop().mean() if before else x.new_zeros(())
        before.append(x.detach().clone())
        return x + SLIGHT * left.to(x.dtype)

    _after(module, leak)


def wears_out(module: nn.Module) -> None:
    """Give a little less at every call."""
    calls = [0]

    def less(self: nn.Module, x: Tensor, now: Pass) -> Tensor:
        calls[0] += 1
        return x * (1 - 1e-6 * calls[0])

    _after(module, less)


def differs_in_training(site: Site) -> None:
    """Give another output where gradients are taken in training mode."""
    _after(site, lambda self, x, now: x * (1 + 1e-3) if self.training else x)


def loses_its_pass(site: Site) -> None:
    """Be told of the pass for one call only: the backward's second computation gets another."""
    forward = type(site).forward

    def once(self: Site, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        if self.training:
            self.current = replace(self.current, b=self.current.b * self.current.t, t=1)
        return output

    _become(site, forward=once)


def alternates(module: nn.Module) -> None:
    """Give more at every other call, by as much as no rounding hides."""
    calls = [0]

    def more(self: nn.Module, x: Tensor, now: Pass) -> Tensor:
        calls[0] += 1
        return x * (1 + calls[0] % 2 / 8)

    _after(module, more)


# ------------------------------------------------------------------------------------------------------- rarer faults

When = Callable[[Any, tuple[Any, ...]], bool]  # (module, its arguments)


def only(fault: Fault, when: When) -> Fault:
    """The same fault, in the passes in which `when` holds."""

    def rarer(site: Any) -> None:
        sound = type(site)
        fault(site)
        faulty = type(site)

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            own = type(self)
            self.__class__ = faulty if when(self, args + tuple(kwargs.values())) else sound
            try:
                return self.__class__.forward(self, *args, **kwargs)
            finally:
                self.__class__ = own

        site.__class__ = type(f"Sometimes{sound.__name__}", (sound,), {"forward": forward})

    return rarer


def above_batch_one(site: Any, args: tuple[Any, ...]) -> bool:
    return site.current.b > 1


def in_streams(site: Any, args: tuple[Any, ...]) -> bool:
    return site.current.past is not None


def in_streams_after(frames: int) -> When:
    return lambda site, args: site.current.past is not None and int(site.current.cursor) >= frames


def in_chunks_of(blocks: int) -> When:
    return lambda site, args: site.current.past is not None and site.current.t == blocks


def in_clips_over(blocks: int) -> When:
    return lambda site, args: site.current.past is None and site.current.t > blocks


def in_dtype(dtype: torch.dtype) -> When:
    return lambda site, args: any(isinstance(x, Tensor) and x.dtype == dtype for x in args)


def recomputing(site: Any, args: tuple[Any, ...]) -> bool:
    """While gradient checkpointing runs the forward again, in the backward."""
    return torch._C._current_graph_task_id() != -1


def training(site: Any, args: tuple[Any, ...]) -> bool:
    """While gradients are kept account of."""
    return torch.is_grad_enabled()


def in_second_clip(fault: Fault) -> Fault:
    """The same fault, in all clips but the first."""

    def rarer(site: Any) -> None:
        sound = type(site)
        fault(site)
        faulty = type(site)

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            own, now = type(self), self.current
            outputs = []
            for kind in (faulty, sound):
                self.__class__ = kind
                try:
                    outputs.append(kind.forward(self, *args, **kwargs))
                finally:
                    self.__class__ = own

            def first_sound(bad: Any, good: Any) -> Any:
                if not isinstance(good, Tensor):
                    return good
                each = good.unflatten(0, (now.b, -1)).clone()
                each[1:] = bad.unflatten(0, (now.b, -1))[1:]
                return each.flatten(0, 1)

            return tree_map(first_sound, *outputs)

        site.__class__ = type(f"SecondClip{sound.__name__}", (sound,), {"forward": forward})

    return rarer


def under_checkpointing(site_name: str, fault: Fault) -> Broken:
    """The fault, while the base's gradient checkpointing is switched on."""

    def broken_then(world: World) -> None:
        base = world.base

        def on(site: Any, args: tuple[Any, ...]) -> bool:
            return any(getattr(module, "gradient_checkpointing", False) for module in base.modules())

        only(fault, on)(base.get_submodule(site_name))

    return broken_then


# ------------------------------------------------------------------------------------------------ around the modules


def _inputs(change: Callable[[Pass, Tensor, dict[str, Any]], tuple[Tensor, dict[str, Any]]]) -> Broken:
    """The world gives its base another noise level, or other conditions."""

    def fault(world: World) -> None:
        run = type(world)._run

        def changed(self: World, now: Pass, latents: Tensor, level: Tensor, conditions: Any) -> Tensor:
            return run(self, now, latents, *change(now, level, conditions))

        world.__class__ = type("BrokenWorld", (type(world),), {"_run": changed})

    return fault


def _noise(change: Callable[[Tensor, int], Tensor]) -> Broken:
    return _inputs(lambda now, level, given: (change(level, now.n), given))


def noise_of_next(world: World) -> None:
    """Tell each frame's noise level to the frame before it."""
    _noise(lambda level, n: level.roll(-n, 1))(world)


def noise_of_last(world: World) -> None:
    """Tell each frame the noise level of the frame before it."""
    _noise(lambda level, n: torch.cat([level[:, :n], level[:, :-n]], 1))(world)


def noise_of_first(world: World) -> None:
    """Tell all frames the first one's noise level."""
    _noise(lambda level, n: level[:, :1].expand_as(level))(world)


def noise_of_other_clip(world: World) -> None:
    _noise(lambda level, n: level.flip(0))(world)


def condition_of_next(name: str) -> Broken:
    """Let each frame's condition of that name be seen by the frame before it."""
    return _condition(name, lambda x: x.roll(-1, 1))


def condition_of_first(name: str) -> Broken:
    """Give all frames what the first one is told."""
    return _condition(name, lambda x: x[:, :1].expand_as(x))


def condition_of_other_clip(name: str) -> Broken:
    return _condition(name, lambda x: x.flip(0))


def detached(name: str) -> Broken:
    """Let no gradient reach the condition of that name."""
    return _condition(name, lambda x: x.detach())


def _condition(name: str, change: Callable[[Tensor], Tensor]) -> Broken:
    def changed(now: Pass, level: Tensor, given: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        whole = name in given and given[name].shape[:2] == (now.b, now.t)
        return level, given | {name: change(given[name])} if whole else given

    return _inputs(changed)


def cursor_stuck(world: World) -> None:
    """Commit, but do not count."""
    _continued(
        world, lambda given, output, state, commit: (output, state._replace(cursor=given.cursor.clone()))
    )


def cursor_ahead(world: World) -> None:
    """Count a block too many at every commit."""
    _continued(
        world, lambda given, output, state, commit: (output, state._replace(cursor=state.cursor + commit))
    )


def drafts_count(world: World) -> None:
    """Count a pass that was not committed, too."""
    _continued(
        world,
        lambda given, output, state, commit: (output, state._replace(cursor=state.cursor + (not commit))),
    )


def _continued(world: World, change: Callable[..., Any]) -> None:
    continued = type(world).continued

    def changed(self: World, state: Any, *args: Any, commit: bool = False, **kwargs: Any) -> Any:
        return change(state, *continued(self, state, *args, commit=commit, **kwargs), commit)

    world.__class__ = type("BrokenWorld", (type(world),), {"continued": changed})


def output_late(world: World) -> None:
    """Return each frame's prediction for the next."""
    _output(world, lambda x: x.roll(1, 1))


def output_of_other_clip(world: World) -> None:
    _output(world, lambda x: x.flip(0))


def output_upside_down(world: World) -> None:
    _output(world, lambda x: x.flip(-2))


def _output(world: World, change: Callable[[Tensor], Tensor]) -> None:
    run = type(world)._run
    changed = {"_run": lambda self, *args: change(run(self, *args))}
    world.__class__ = type("BrokenWorld", (type(world),), changed)


# ------------------------------------------------------------------------------------------------------------------- means


def _become(module: nn.Module, **methods: Any) -> None:
    module.__class__ = type(f"Broken{type(module).__name__}", (type(module),), methods)


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


def _actions(site: Site, change: Callable[[Tensor], Tensor]) -> None:
    _forward_under(site, lambda now: {"actions": None if now.actions is None else change(now.actions)})


def _after(module: Any, change: Callable[[Any, Tensor, Pass], Tensor]) -> None:
    """Change the module's first output, ((b t) …)."""
    forward = type(module).forward

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        leaves, tree = tree_flatten(forward(self, *args, **kwargs))
        at = next(i for i, x in enumerate(leaves) if isinstance(x, Tensor))
        leaves[at] = change(self, leaves[at], self.current)
        return tree_unflatten(leaves, tree)

    _become(module, forward=changed)


def _committing(site: Site, change: Callable[[Any, SiteState, SiteState], SiteState]) -> None:
    """Change what is committed, from what was carried in and what should be carried on."""
    forward = type(site).forward

    def changed(self: Site, *args: Any, **kwargs: Any) -> Any:
        output, now = forward(self, *args, **kwargs), self.current
        if now.commit and now.past is not None:
            old, new = now.past[self.site_name], now.present[self.site_name]
            now.present[self.site_name] = change(self, old, new)
        return output

    _become(site, forward=changed)


def _rotary(site: Any, rotary: Any) -> None:
    """Other rotation wherever the site makes one (its promise is measured without any)."""
    turned = type(site)._turned

    def changed(self: Any, x: Tensor, *blocks: Tensor) -> Tensor:
        own = self.rotary
        if own is not None:
            self.rotary = rotary
        try:
            return turned(self, x, *blocks)
        finally:
            self.rotary = own

    _become(site, _turned=changed)


class _Layout:
    """Where frames and text stand in an attention's mask (b|1 1 queries keys)."""

    def __init__(self, site: Any, query: Tensor, l_frame: int | None):
        self.t, self.first = site.current.t, site.text == "first"
        self.l_query = query.shape[2]
        self.l_text = 0 if l_frame is None else self.l_query - l_frame

    @property
    def text_rows(self) -> slice:
        """Of one frame's queries."""
        l_frame = self.l_query - self.l_text
        return slice(0, self.l_text) if self.first else slice(l_frame, self.l_query)

    def own(self, mask: Tensor) -> Tensor:
        """A view of the part that is about this pass's frames: (b|1 t l t l), who sees (frame, token) whom."""
        l_frame = self.l_query - self.l_text
        part = mask[:, 0, :, -self.t * l_frame :]
        return part.unflatten(1, (self.t, -1)).unflatten(3, (self.t, -1))


def _masked(site: Any, change: Callable[[Tensor, _Layout], None]) -> None:
    attend = type(site)._attend

    def changed(self: Any, l_frame: int | None, query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with _Masks(partial(change, seen=_Layout(self, query, l_frame))):
            return attend(self, l_frame, query, *args, **kwargs)

    _become(site, _attend=changed)


class _Masks(TorchFunctionMode):
    """Changes the mask of every scaled_dot_product_attention within it that has one."""

    def __init__(self, change: Callable[[Tensor], None]):
        super().__init__()
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and kwargs.get("attn_mask") is not None:
            mask = kwargs["attn_mask"].clone()
            self.change(mask)
            kwargs["attn_mask"] = mask
        return func(*args, **kwargs)

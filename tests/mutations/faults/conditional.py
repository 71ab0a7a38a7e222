"""The same faults under one condition only: of the noise levels, the values, the actions, the size of the clips."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from tests.mutations.faults.rarely import When, only
from tests.mutations.faults.tools import Fault, WorldFault, at
from v2w_convert.sites import ForwardContext
from v2w_convert.world.model import World


@dataclass
class Pass:
    """What the world was last called with."""

    now: ForwardContext
    latents: Tensor
    level: Tensor
    conditions: dict[str, Tensor]
    max_level: float
    history_level: float


PassIs = Callable[[Pass], bool]


def where(site: str, fault: Fault, when: PassIs) -> WorldFault:
    """The fault at one module, in the passes in which `when` holds."""

    def broken_then(world: World) -> None:
        run = type(world)._run
        last: list[Pass] = []

        def noted(
            self: World, now: ForwardContext, latents: Tensor, level: Tensor, conditions: dict[str, Tensor]
        ) -> Tensor:
            last[:] = [Pass(now, latents, level, conditions, self.noise.max_level, self.noise.history_level)]
            return run(self, now, latents, level, conditions)

        world.__class__ = type("WatchedWorld", (type(world),), {"_run": noted})
        at(site, lambda module: only(fault, lambda site, args: bool(last) and when(last[0]))(module))(world)

    return broken_then


def activations_over(size: float) -> When:
    return lambda site, args: any(
        isinstance(x, Tensor) and x.is_floating_point() and bool((x.abs() > size).any()) for x in args
    )


def all_dropped(seen: Pass) -> bool:
    return seen.now.dropped is not None and bool(seen.now.dropped.all())


def none_dropped(seen: Pass) -> bool:
    return seen.now.dropped is not None and not bool(seen.now.dropped.any())


def no_actions(seen: Pass) -> bool:
    return seen.now.actions is None


def zero_actions(seen: Pass) -> bool:
    return seen.now.actions is not None and not bool(seen.now.actions.any())


def all_clean(seen: Pass) -> bool:
    return bool((seen.level <= seen.history_level).all())


def some_clean(seen: Pass) -> bool:
    return bool((seen.level == 0).any())


def one_level(seen: Pass) -> bool:
    return bool((seen.level == seen.level[0, 0]).all()) and not all_clean(seen)


def largest_level(seen: Pass) -> bool:
    return bool((seen.level >= 0.999 * seen.max_level).all())


def falling_levels(seen: Pass) -> bool:
    return seen.now.t > 1 and bool((seen.level.diff(dim=1) < 0).all())


def rising_levels(seen: Pass) -> bool:
    return seen.now.t > 1 and bool((seen.level.diff(dim=1) > 0).all())


def rollout_levels(seen: Pass) -> bool:
    """Clean frames, then a noisy one."""
    n = seen.now.frames_per_block
    clean = seen.level <= seen.history_level
    return seen.now.t > 1 and bool(clean[:, :-n].all()) and not bool(clean[:, -n:].any())


def with_offset(seen: Pass) -> bool:
    return seen.now.offset is not None and bool((seen.now.offset > 0).any())


def far_in_the_stream(blocks: int) -> PassIs:
    return lambda seen: int(seen.now.cursor) >= blocks


def chunks_over(blocks: int) -> PassIs:
    return lambda seen: seen.now.past is not None and seen.now.t > blocks


def clips_over(blocks: int) -> PassIs:
    return lambda seen: seen.now.past is None and seen.now.t > blocks


def batch_of(clips: int) -> PassIs:
    return lambda seen: seen.now.b >= clips


def picture_over(h: int, w: int) -> PassIs:
    return lambda seen: seen.latents.shape[-2] > h or seen.latents.shape[-1] > w


def upright(seen: Pass) -> bool:
    return seen.latents.shape[-2] > seen.latents.shape[-1]


def square(seen: Pass) -> bool:
    return seen.latents.shape[-2] == seen.latents.shape[-1]


def latents_over(size: float) -> PassIs:
    return lambda seen: bool((seen.latents.abs() > size).any())


def negative_latents(seen: Pass) -> bool:
    return bool((seen.latents < 0).all())


def still_latents(seen: Pass) -> bool:
    """Two frames after each other are the same."""
    return seen.now.t > 1 and not bool(seen.latents.diff(dim=1).flatten(2).abs().amax(2).all())


def no_conditions(seen: Pass) -> bool:
    return not seen.conditions


def in_clip(fault: Fault, clip: int) -> Fault:
    """The same fault, in the clip of that index only."""

    def rarer(site: Any) -> None:
        sound = type(site)
        fault(site)
        faulty = type(site)

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            own, b = type(self), self.context.b
            self.__class__ = sound
            try:
                good = sound.forward(self, *args, **kwargs)
                if b <= clip:
                    return good
                self.__class__ = faulty
                bad = faulty.forward(self, *args, **kwargs)
            finally:
                self.__class__ = own

            def all_but_one_sound(bad: Any, good: Any) -> Any:
                if not isinstance(good, Tensor):
                    return good
                each = good.unflatten(0, (b, -1)).clone()
                each[clip] = bad.unflatten(0, (b, -1))[clip]
                return each.flatten(0, 1)

            return tree_map(all_but_one_sound, bad, good)

        site.__class__ = type(f"OneClip{sound.__name__}", (sound,), {"forward": forward})

    return rarer


def condition_unheeded(name: str, when: PassIs) -> WorldFault:
    """One condition is not passed on, or a mask masks nothing, in the passes in which `when` holds."""

    def broken_then(world: World) -> None:
        run = type(world)._run

        def changed(
            self: World, now: ForwardContext, latents: Tensor, level: Tensor, conditions: dict[str, Tensor]
        ) -> Tensor:
            seen = Pass(now, latents, level, conditions, self.noise.max_level, self.noise.history_level)
            if name in conditions and when(seen):
                others = {key: value for key, value in conditions.items() if key != name}
                is_mask = not conditions[name].is_floating_point()
                conditions = others | ({name: torch.ones_like(conditions[name])} if is_mask else {})
            return run(self, now, latents, level, conditions)

        world.__class__ = type("DeafWorld", (type(world),), {"_run": changed})

    return broken_then


def given_once(name: str) -> PassIs:
    """That condition is given once for each clip."""
    return lambda seen: seen.conditions[name].shape[1:2] != (seen.now.t,) or seen.now.t == 1


def always(seen: Pass) -> bool:
    return True


def in_stream(seen: Pass) -> bool:
    return seen.now.past is not None


def both(*conditions: PassIs) -> PassIs:
    return lambda seen: all(condition(seen) for condition in conditions)

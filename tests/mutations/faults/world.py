"""Faults between the modules: noise levels, conditions, streams, outputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.mutations.faults.tools import WorldFault
from v2w_convert.sites import ForwardContext
from v2w_convert.world.model import World


def _inputs(
    change: Callable[[ForwardContext, Tensor, dict[str, Any]], tuple[Tensor, dict[str, Any]]],
) -> WorldFault:
    """The world gives its base another noise level, or other conditions."""

    def fault(world: World) -> None:
        run = type(world)._run

        def changed(
            self: World, now: ForwardContext, latents: Tensor, level: Tensor, conditions: Any
        ) -> Tensor:
            return run(self, now, latents, *change(now, level, conditions))

        world.__class__ = type("BrokenWorld", (type(world),), {"_run": changed})

    return fault


def _noise(change: Callable[[Tensor, int], Tensor]) -> WorldFault:
    return _inputs(lambda now, level, given: (change(level, now.frames_per_block), given))


def noise_level_of_next_frame(world: World) -> None:
    """Give each frame the noise level of the next one."""
    _noise(lambda level, n: level.roll(-n, 1))(world)


def noise_level_of_previous_frame(world: World) -> None:
    """Give each frame the noise level of the previous one."""
    _noise(lambda level, n: torch.cat([level[:, :n], level[:, :-n]], 1))(world)


def noise_level_of_first_frame(world: World) -> None:
    """Give all frames the first one's noise level."""
    _noise(lambda level, n: level[:, :1].expand_as(level))(world)


def noise_level_of_other_clip(world: World) -> None:
    _noise(lambda level, n: level.flip(0))(world)


def condition_of_next_frame(name: str) -> WorldFault:
    """Give each frame the condition of the next one."""
    return _condition(name, lambda x: x.roll(-1, 1))


def condition_of_first_frame(name: str) -> WorldFault:
    """Give all frames the first one's condition."""
    return _condition(name, lambda x: x[:, :1].expand_as(x))


def condition_of_other_clip(name: str) -> WorldFault:
    return _condition(name, lambda x: x.flip(0))


def condition_without_gradient(name: str) -> WorldFault:
    """Detach the condition of that name."""
    return _condition(name, lambda x: x.detach())


def _condition(name: str, change: Callable[[Tensor], Tensor]) -> WorldFault:
    def changed(now: ForwardContext, level: Tensor, given: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        whole = name in given and given[name].shape[:2] == (now.b, now.t)
        return level, given | {name: change(given[name])} if whole else given

    return _inputs(changed)


def cursor_not_advanced(world: World) -> None:
    """Commit without advancing the cursor."""
    _continued(
        world, lambda given, output, state, commit: (output, state._replace(cursor=given.cursor.clone()))
    )


def cursor_one_block_ahead(world: World) -> None:
    """Advance the cursor by a block too many at every commit."""
    _continued(
        world, lambda given, output, state, commit: (output, state._replace(cursor=state.cursor + commit))
    )


def cursor_counts_uncommitted_passes(world: World) -> None:
    """Advance the cursor after uncommitted passes, too."""
    _continued(
        world,
        lambda given, output, state, commit: (output, state._replace(cursor=state.cursor + (not commit))),
    )


def _continued(world: World, change: Callable[..., Any]) -> None:
    continued = type(world).forward_streamed

    def changed(self: World, state: Any, *args: Any, commit: bool = False, **kwargs: Any) -> Any:
        return change(state, *continued(self, state, *args, commit=commit, **kwargs), commit)

    world.__class__ = type("BrokenWorld", (type(world),), {"forward_streamed": changed})


def output_one_frame_late(world: World) -> None:
    """Return each frame's prediction for the next."""
    _output(world, lambda x: x.roll(1, 1))


def output_of_other_clip(world: World) -> None:
    _output(world, lambda x: x.flip(0))


def output_flipped(world: World) -> None:
    _output(world, lambda x: x.flip(-2))


def _output(world: World, change: Callable[[Tensor], Tensor]) -> None:
    run = type(world)._run
    changed = {"_run": lambda self, *args: change(run(self, *args))}
    world.__class__ = type("BrokenWorld", (type(world),), changed)

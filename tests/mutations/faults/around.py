"""What is between the modules: noise levels, conditions, streams, outputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.mutations.faults.means import Broken
from v2w_convert.sites import ForwardContext
from v2w_convert.world.model import World


def _inputs(
    change: Callable[[ForwardContext, Tensor, dict[str, Any]], tuple[Tensor, dict[str, Any]]],
) -> Broken:
    """The world gives its base another noise level, or other conditions."""

    def fault(world: World) -> None:
        run = type(world)._run

        def changed(
            self: World, now: ForwardContext, latents: Tensor, level: Tensor, conditions: Any
        ) -> Tensor:
            return run(self, now, latents, *change(now, level, conditions))

        world.__class__ = type("BrokenWorld", (type(world),), {"_run": changed})

    return fault


def _noise(change: Callable[[Tensor, int], Tensor]) -> Broken:
    return _inputs(lambda now, level, given: (change(level, now.frames_per_block), given))


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
    def changed(now: ForwardContext, level: Tensor, given: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
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
    continued = type(world).forward_streamed

    def changed(self: World, state: Any, *args: Any, commit: bool = False, **kwargs: Any) -> Any:
        return change(state, *continued(self, state, *args, commit=commit, **kwargs), commit)

    world.__class__ = type("BrokenWorld", (type(world),), {"forward_streamed": changed})


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

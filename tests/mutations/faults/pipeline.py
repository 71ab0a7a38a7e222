"""Faults in what the base is given besides frames: arguments, and what is made of a clip's first picture."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.mutations.faults.tools import WorldFault
from v2w_convert.world.model import World


def argument_dropped(name: str) -> WorldFault:
    """Do not give an argument that the plan computes, or names as a constant."""

    def fault(world: World) -> None:
        call = world.resolved.call
        compute = call.computed_arguments

        def computed(*sizes: Any) -> dict[str, Any]:
            return {} if compute is None else {key: x for key, x in compute(*sizes).items() if key != name}

        constants = {key: value for key, value in call.constants.items() if key != name}
        _change_call(world, computed_arguments=computed, constants=constants)

    return fault


def setting_changed(name: str) -> WorldFault:
    """Give another value of a setting where the user gives none."""

    def fault(world: World) -> None:
        condition = world.resolved.call.conditions[name]
        other = replace(condition, fill=condition.fill + 1)  # type: ignore[operator]
        _change_call(world, conditions={**world.resolved.call.conditions, name: other})

    return fault


def picture_scaled(world: World) -> None:
    """Multiply what is made of a picture by two."""
    _picture(lambda x: 2 * x)(world)


def picture_to_every_frame(world: World) -> None:
    """Give the first frame's to all frames."""
    _picture(lambda x: x[:1].expand_as(x))(world)


def picture_one_frame_late(world: World) -> None:
    """Give the first frame's to the second one."""
    _picture(lambda x: x.roll(1, 0))(world)


def picture_mask_inverted(world: World) -> None:
    """Exchange 0 and 1 in a mask."""
    _picture(lambda x: torch.where((x == 0) | (x == 1), 1 - x, x))(world)


def _picture(change: Callable[[Tensor], Tensor]) -> WorldFault:
    def fault(world: World) -> None:
        right = world.resolved.call.image_conditions
        assert right is not None

        def made(*given: Any) -> dict[str, Tensor]:
            return {name: change(x) for name, x in right(*given).items()}

        _change_call(world, image_conditions=made)

    return fault


def _change_call(world: World, **changes: Any) -> None:
    world.resolved = replace(world.resolved, call=replace(world.resolved.call, **changes))

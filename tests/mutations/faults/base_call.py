"""Faults in how the base is called, which the base and the world share: they cancel wherever the two are compared."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tests.mutations.faults.pipeline import _change_call
from tests.mutations.faults.tools import WorldFault
from v2w_convert.plan import call, coverage
from v2w_convert.verification.claims import base_call, pipeline
from v2w_convert.verification.engine import inputs, recorded_pipeline
from v2w_convert.world import model
from v2w_convert.world.model import World

CALL_BASE = call.call_base
CALLERS = (coverage, base_call, pipeline, inputs, recorded_pipeline, model)

Patches = dict[Any, dict[str, Callable[..., Any]]]


def laid_out(change: Callable[[str], str]) -> WorldFault:
    """Another layout in the plan's call."""

    def fault(world: World) -> None:
        _change_call(world, layout=change(world.resolved.call.layout))

    return fault


def height_and_width_exchanged(layout: str) -> str:
    return layout.translate(str.maketrans("hw", "wh"))


def called(
    latents: Callable[[Tensor], Tensor] = lambda x: x,
    time: Callable[[Tensor], Tensor] = lambda x: x,
    output: Callable[[Tensor], Tensor] = lambda x: x,
) -> Patches:
    """Give the base other latents (b t c h w) or another timestep (b,), or return another output (b t c h w)."""

    def broken(base: nn.Module, how: Any, frames: Tensor, timestep: Tensor, conditions: Any) -> Tensor:
        return output(CALL_BASE(base, how, latents(frames), time(timestep), conditions))

    return {module: {"call_base": broken} for module in CALLERS}

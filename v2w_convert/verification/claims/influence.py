"""Which output frame depends on which input frame, for the report's pictures. No claim.

The coverage check uses the base's influence as its control.
"""

from torch import Tensor

from v2w_convert.verification.claim import Claim
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import Inputs, base_call, enough_frames, random_inputs, uniform
from v2w_convert.verification.engine.phases import BASE, WORLD, Cost
from v2w_convert.verification.module import influence
from v2w_convert.world.model import World


def base_influence(context: VerifyContext) -> Tensor:
    """Return the base's influence, (t t)."""
    inputs = _common_inputs(context.world)
    return influence(base_call(context.base, context.world, inputs), inputs["latents"], frame_dim=1)


def world_influence(world: World) -> Tensor:
    """Return the world model's influence, (t t), on the same clip."""
    inputs = _common_inputs(world)
    return influence(lambda x: world(**inputs | {"latents": x}), inputs["latents"], frame_dim=1)


def _common_inputs(world: World) -> Inputs:
    """Return one clip that both models can receive."""
    return uniform(random_inputs(world, 1, world.resolved.frames(enough_frames(world)), seed=0), world)


def _record_base(context: VerifyContext) -> list[Claim]:
    context.base_record.influence = base_influence(context)
    return []


def _record_world(context: VerifyContext) -> list[Claim]:
    before = context.base_record.influence
    context.figures["influence"] = {
        "base": None if before is None else before.tolist(),
        "world": world_influence(context.world).tolist(),
    }
    return []


CHECKS = (
    Check(
        "influence in the base",
        (),
        BASE,
        _record_base,
        Cost(passes=4),
        applies=lambda c: c.draw_influence and c.origin is not None,
    ),
    Check(
        "influence in the world model",
        (),
        WORLD,
        _record_world,
        Cost(passes=4),
        applies=lambda c: c.draw_influence,
    ),
)

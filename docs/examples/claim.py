"""A claim: cutting a clip short changes nothing before the cut. The how-to "Add a claim" shows this file."""

# --8<-- [start:claim]
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.inputs import (
    enough_frames,
    random_inputs,
    slice_of,
)
from v2w_convert.verification.engine.phases import WORLD_RANDOMIZED, Cost
from v2w_convert.world.model import World

PREFIX_EQUAL = ClaimSpec(
    "prefix-equal",
    "causality",
    "A clip that is cut short has the same output for the frames that remain",
)


def measure_prefix(world: World) -> Claim:
    """Compare the output for a clip with that for its first half."""
    t = enough_frames(world)
    half = t // 2 // world.frames_per_block * world.frames_per_block
    clip = random_inputs(world, 2, t, seed=0)
    whole, prefix = world(**clip), world(**slice_of(clip, 0, half, world))
    return PREFIX_EQUAL.result(
        max_abs_diff(prefix, whole[:, :half]) / float(whole.abs().max()),
        allowed=1e-9,  # other sizes, so the same sums in another order
        how=f"largest difference, over the largest value, for {half} of {t} frames",
    )


CHECKS = (
    Check(
        "clips that are cut short",
        (PREFIX_EQUAL,),
        WORLD_RANDOMIZED,
        lambda context: [measure_prefix(context.world)],
        Cost(passes=1.5),
    ),
)
# --8<-- [end:claim]

"""Every condition is heeded: given once for a clip or block by block, in a whole clip or in a stream."""

import torch
from torch import Tensor

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import Inputs, random_inputs
from v2w_convert.verification.engine.phases import WORLD_RANDOMIZED, Cost
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64: a stream's difference
BLOCKS = 2

HEEDED = ClaimSpec(
    "conditions-heeded",
    "streaming",
    "Every condition has an effect, and the same in whichever form it is given",
)


def measure_conditions(world: World, brief: bool = False) -> list[Claim]:
    """Give one condition at a time, as callers of the model may; a prompt and its mask go together.

    For each: another value changes the output; given once for the clip and for each block, in one pass and streamed, the
    output is the same.

    Args:
        world: The world model.
        brief: True for a large model: of the streams, only those in which it is given once for the clip.
    """
    names = heeded_conditions(world)
    broken: dict[str, None] = {}
    for name in names:
        broken |= dict.fromkeys(_faults(world, name, brief))
    names_of = ", ".join(names)
    how = (
        f"conditions and forms, of {len(names)} conditions ({names_of or 'none'}), without an effect or with another; one clip of "
        f"{BLOCKS * world.frames_per_block} frames; each alone, no actions; float64; zero-initialised layers randomised"
    )
    return [HEEDED.count_frames([*broken], MODEL_FORWARD, how)]


def heeded_conditions(world: World) -> list[str]:
    """Return the names of the conditions that are not empty."""
    conditions = world.resolved.call.conditions
    return [name for name, condition in conditions.items() if 0 not in condition.shape(1, 1, 1)]


def _faults(world: World, name: str, brief: bool) -> list[str]:
    """What is wrong with one condition, in words."""
    conditions, t = world.resolved.call.conditions, BLOCKS * world.frames_per_block
    condition = conditions[name]
    drawn, others = (random_inputs(world, 1, t, seed) for seed in (0, 1))
    clip = {kind: drawn[kind] for kind in ("latents", "noise_level")}
    together = [key for key, each in conditions.items() if each.has_tokens and condition.has_tokens]
    once = {key: drawn[key][:, 0] for key in together or [name]}
    # Of a mask, the other value has no padding.
    other = others[name][:, 0] if condition.dtype == "float" else torch.ones_like(once[name])
    each = {key: _for_each(world, key, value) for key, value in once.items()}
    output = world(**clip, **each)
    allowed = ALLOWED * float(output.abs().max())
    can_be_once = not (condition.is_per_frame and condition.later_frames == "own")
    found = []
    if torch.equal(world(**clip, **each | {name: _for_each(world, name, other)}), output):
        found.append(f"{name} without effect")
    if can_be_once and max_abs_diff(world(**clip, **once), output) > 0:
        found.append(f"{name} given once for a clip")
    if can_be_once and not max_abs_diff(_streamed(world, clip, once), output) <= allowed:
        found.append(f"{name} given once for a clip, streamed")
    if not (can_be_once and brief) and not max_abs_diff(_streamed(world, clip, each), output) <= allowed:
        found.append(f"{name} streamed")
    return found


def _for_each(world: World, name: str, value: Tensor) -> Tensor:
    """A condition given once (1 …), as it is given for every block, or a picture for every frame."""
    condition = world.resolved.call.conditions[name]
    if not condition.is_per_frame:
        return value[:, None].expand(-1, BLOCKS, *value.shape[1:])
    frames = torch.arange(BLOCKS * world.frames_per_block)
    return value[:, None] if condition.later_frames == "own" else condition.at_frames(value, frames)


def _streamed(world: World, clip: Inputs, given: Inputs) -> Tensor:
    """The output of the clip as the first chunk of a stream."""
    _, t, _, h, w = clip["latents"].shape
    state = world.empty_state(1, h, w, window=None if world.resolved.window else t)
    output, _ = world.forward_streamed(state, **clip, commit=False, **given)
    return output


def _cost(context: VerifyContext) -> Cost:
    number = len(context.resolved.call.conditions)
    return Cost(reads=5 * number) if context.large else Cost(passes=number)


CHECKS = (
    Check("conditions", (HEEDED,), WORLD_RANDOMIZED, lambda c: measure_conditions(c.world, c.large), _cost),
)

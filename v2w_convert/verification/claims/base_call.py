"""The base, called as its family's published code calls it, gives what it gives when it is called as the plan says.

`call_base` stands on both sides of every other comparison with the base, where a fault in it cancels.
"""

import torch
from torch import Tensor, nn

from v2w_convert.errors import one_line
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.call import Conditions, call_base
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec, join_names
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.inputs import conditions_of, latent_size, random_inputs, uniform
from v2w_convert.verification.engine.phases import BASE_RANDOMIZED, Cost
from v2w_convert.verification.engine.published_calls import PUBLISHED_CALLS
from v2w_convert.verification.engine.recorded_pipeline import difference, record_call
from v2w_convert.verification.report.fixes import fix_text
from v2w_convert.world.model import World

FRAMES = 3
TIMESTEPS = (3.0, 641.0)  # two clips, so that another clip's shows

CALL = ClaimSpec(
    "base-call",
    "pipeline",
    "Called as the plan says, the base gives what it gives when its family's published code calls it",
    needs_base=True,
    core=True,
    fix=fix_text("`call` in the plan: the layout of frames, the timestep, or another argument"),
)


def measure_base_call(base: nn.Module, world: World) -> Claim:
    """Call the base twice on the same clips, and compare what it receives and what it returns.

    Args:
        base: Float64; its zero-initialised layers are randomised.
        world: The world model, of which only the plan is used.
    """
    resolved = world.resolved
    published = PUBLISHED_CALLS.get(resolved.plan.base)
    if published is None:
        return CALL.not_measured(f"no published call of a {resolved.plan.base} is written down")
    if unknown := resolved.call.conditions.keys() - published.conditions:
        return CALL.not_measured(f"the published call knows no {join_names(sorted(unknown))}")
    latents, timestep, conditions = _clips(world)
    theirs = published.arguments(resolved.config, latents, timestep, conditions)
    ours = record_call(resolved, latents, timestep, conditions)
    names = sorted((ours.keys() | theirs.keys()) - {"return_dict"})
    apart = [
        name
        for name in names
        if name not in ours or name not in theirs or difference(ours[name], theirs[name]) != 0
    ]
    output = base(**theirs, return_dict=False)
    output = output[0] if isinstance(output, tuple) else output
    expected = published.frames(output, theirs)[:, :, : latents.shape[2]]
    measured, failed = float("inf"), ""
    try:
        found = call_base(base, resolved.call, latents, timestep, conditions)
    except (RuntimeError, ValueError) as error:  # as a forward has it of arguments that do not fit
        failed = f"; as the plan says, it fails: {one_line(error)}"
    else:
        if found.shape == expected.shape:
            measured = max_abs_diff(found, expected)
    return CALL.result(
        measured,
        where=join_names(apart) if apart else "" if measured == 0 else MODEL_FORWARD,
        how=f"largest difference of the outputs; {len(latents)} clips of {latents.shape[1]} frames of "
        f"{latents.shape[3]} x {latents.shape[4]}, random conditions, float64; the published call is written down by hand; "
        f"named are arguments that differ, of {len(names)}{failed}",
    )


def _clips(world: World) -> tuple[Tensor, Tensor, Conditions]:
    """Two clips (b t c h w), higher than wide or the other way round, their timesteps (b,) and conditions (b …)."""
    t = world.resolved.frames(FRAMES)
    inputs = uniform(
        random_inputs(world, len(TIMESTEPS), t, seed=0, size=latent_size(world, oblong=True)), world
    )
    timestep = torch.tensor(TIMESTEPS, dtype=world.dtype)
    conditions = {
        name: value.to(world.dtype) if value.is_floating_point() else value
        for name, value in conditions_of(inputs, world).items()
    }
    return inputs["latents"], timestep, conditions


CHECKS = (
    Check(
        "the base by its published call",
        (CALL,),
        BASE_RANDOMIZED,
        lambda c: [measure_base_call(c.base, c.world)],
        Cost(passes=2),
    ),
)

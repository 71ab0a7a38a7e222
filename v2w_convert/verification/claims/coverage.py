"""Every module through which the base's frames mix has an operation."""

from torch import Tensor, nn

from v2w_convert.plan.call import per_frame_inputs
from v2w_convert.plan.coverage import uncovered_sites
from v2w_convert.plan.probe import MixingSite, mixing_sites
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec
from v2w_convert.verification.claims.influence import base_influence
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import (
    base_call,
    conditions_of,
    random_inputs,
    slice_of,
    uniform,
)
from v2w_convert.verification.engine.phases import BASE_RANDOMIZED, FILES, Cost
from v2w_convert.verification.report.fixes import fix_text
from v2w_convert.world.model import World

PROBED_TOKENS = 5  # frames of tokens: unlike all other sizes, so that the probe can distinguish the axes

COVERAGE = ClaimSpec(
    "coverage", "coverage", "Every module through which the base's frames mix has an operation", core=True
)
FAMILY_SENTENCE = "Every module through which the family's frames mix has an operation"
CONTROL = ClaimSpec(
    "control-base-leaks-future",
    "coverage",
    "Control: the base leaks future frames, so that a leak can be measured",
    needs_base=True,
    fix=fix_text("`call` in the plan: the base does not receive the frames as one clip"),
)


def base_sites(base: nn.Module, world: World) -> list[MixingSite]:
    """Return the base's mixing sites, found by a probe; its zero-initialised layers are randomised."""
    packed = world.resolved.call.frames_per_token
    inputs = uniform(random_inputs(world, 1, world.resolved.frames(PROBED_TOKENS * packed), seed=0), world)
    if world.resolved.call.clip_length is None:  # the base does not need whole blocks
        inputs = slice_of(inputs, 0, PROBED_TOKENS * packed, world)
    frames, split = per_frame_inputs(world.resolved.call, inputs["latents"], conditions_of(inputs, world))

    def call(packs: Tensor) -> Tensor:
        latents, conditions = split(packs.flatten(1, 2))
        output: Tensor = base_call(base, world, inputs, conditions)(latents).unflatten(1, (-1, packed))
        return output

    return mixing_sites(base, call, frames.unflatten(1, (-1, packed)), frame_axis=1)


def measure_coverage(sites: list[MixingSite], resolved: ResolvedPlan) -> Claim:
    """Count those of the base's mixing sites that have no operation."""
    missing = [site.name or MODEL_FORWARD for site in sites if site.name not in resolved.sites]
    how = (
        f"{len(sites)} modules, found by changing one frame and comparing every module's output; "
        "zero-initialised layers randomised"
    )
    return COVERAGE.count(missing, how)


def measure_family_coverage(resolved: ResolvedPlan) -> Claim:
    """Probe the small configuration that the plan names: all that can be done without the base."""
    missing = [site.name or MODEL_FORWARD for site in uncovered_sites(resolved.plan)]
    return COVERAGE.count(
        missing, "a probe of the plan's tiny configuration, random weights", FAMILY_SENTENCE
    )


def measure_control(influence: Tensor) -> Claim:
    """Count the frames of the base that do not see the next one.

    Args:
        influence: (t t), the base's, its zero-initialised layers randomised.
    """
    next_frame = influence.diagonal(1)
    blind = [f"frame {frame}" for frame in (next_frame == 0).nonzero().flatten().tolist()]
    return CONTROL.count_frames(
        blind,
        "",
        f"frames on which the next one has no effect, of {len(next_frame)}; the effects are "
        f"{float(next_frame.min()):.1e} … {float(next_frame.max()):.1e}; zero-initialised layers randomised",
    )


def _measure_coverage(context: VerifyContext) -> list[Claim]:
    sites = base_sites(context.base, context.world)
    context.base_record.leak = {site.name or MODEL_FORWARD: site.leak for site in sites}
    return [measure_coverage(sites, context.resolved)]


def _measure_control(context: VerifyContext) -> list[Claim]:
    known: Tensor | None = None
    if not context.base_record.randomized:  # the influence of the real weights is the same
        known = context.base_record.influence
    return [measure_control(base_influence(context) if known is None else known)]


CHECKS = (
    Check(
        "coverage of the family",
        (COVERAGE,),
        FILES,
        lambda c: [measure_family_coverage(c.resolved)],
        applies=lambda c: c.origin is None,
    ),
    Check(
        "coverage",
        (COVERAGE,),
        BASE_RANDOMIZED,
        _measure_coverage,
        Cost(passes=2),
        applies=lambda c: c.origin is not None,
    ),
    Check("control: the base leaks", (CONTROL,), BASE_RANDOMIZED, _measure_control, Cost(passes=4)),
)

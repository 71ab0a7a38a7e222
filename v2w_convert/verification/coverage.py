"""Every module of the base through which frames mix has an operation."""

from torch import Tensor, nn

from v2w_convert.plan.call import per_frame_inputs
from v2w_convert.plan.coverage import uncovered_sites
from v2w_convert.plan.probe import MixingSite, mixing_sites
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.verification.claims import MODEL_FORWARD, Claim, counted
from v2w_convert.verification.inputs import base_call, conditions_of, random_inputs, slice_of, uniform
from v2w_convert.world.model import World

TINY = "Every module through which the family's frames mix has an operation"
PROBED = 5  # blocks: unlike the sizes of everything else, so that the probe tells the axes apart


def base_sites(base: nn.Module, world: World) -> list[MixingSite]:
    """By a probe of the base itself, woken."""
    packed = world.resolved.call.frames_per_token
    inputs = uniform(random_inputs(world, 1, world.resolved.frames(PROBED * packed), seed=0))
    if world.resolved.call.clip_length is None:  # the base need not be given whole blocks
        inputs = slice_of(inputs, 0, PROBED * packed)
    frames, apart = per_frame_inputs(world.resolved.call, inputs["latents"], conditions_of(inputs, world))

    def call(packs: Tensor) -> Tensor:
        latents, conditions = apart(packs.flatten(1, 2))
        return base_call(base, world, inputs, conditions)(latents).unflatten(1, (-1, packed))

    return mixing_sites(base, call, frames.unflatten(1, (-1, packed)), frame_axis=1)


def coverage(sites: list[MixingSite], resolved: ResolvedPlan) -> Claim:
    """`sites` are the base's."""
    missing = [site.name or MODEL_FORWARD for site in sites if site.name not in resolved.sites]
    how = f"{len(sites)} modules found by changing one frame and comparing every module's output; zero layers woken"
    return counted("coverage", missing, how)


def tiny_coverage(resolved: ResolvedPlan) -> Claim:
    """By a probe of the small configuration that the plan names: all that can be said without the base."""
    missing = [site.name or MODEL_FORWARD for site in uncovered_sites(resolved.plan)]
    return counted("coverage", missing, "a probe of the plan's tiny configuration, random weights", TINY)

"""Every module of the base through which frames mix has an operation."""

from torch import Tensor, nn

from v2w_convert.plan.call import joined
from v2w_convert.plan.probe import MixingSite, mixing_sites
from v2w_convert.plan.resolve import Resolved, uncovered
from v2w_convert.verify.claims import OUTSIDE, Claim, counted
from v2w_convert.verify.inputs import base_call, conditions_of, draw, slice_of, uniform
from v2w_convert.world.model import World

TINY = "Every module through which the family's frames mix has an operation"
PROBED = 5  # blocks: unlike the sizes of everything else, so that the probe tells the axes apart


def base_sites(base: nn.Module, world: World) -> list[MixingSite]:
    """By a probe of the base itself, woken."""
    packed = world.resolved.packed
    inputs = uniform(draw(world, 1, world.resolved.frames(PROBED * packed), seed=0))
    if world.resolved.plan.call.latents.frames is None:  # the base need not be given whole blocks
        inputs = slice_of(inputs, 0, PROBED * packed)
    planned, config = world.resolved.plan.call, world.resolved.config
    frames, apart = joined(planned, config, inputs["latents"], conditions_of(inputs, world))

    def call(packs: Tensor) -> Tensor:
        latents, conditions = apart(packs.flatten(1, 2))
        return base_call(base, world, inputs, conditions)(latents).unflatten(1, (-1, packed))

    return mixing_sites(base, call, frames.unflatten(1, (-1, packed)), frame_axis=1)


def coverage(sites: list[MixingSite], resolved: Resolved) -> Claim:
    """`sites` are the base's."""
    missing = [site.name or OUTSIDE for site in sites if site.name not in resolved.sites]
    how = f"{len(sites)} modules found by changing one frame and comparing every module's output; zero layers woken"
    return counted("coverage", missing, how)


def tiny_coverage(resolved: Resolved) -> Claim:
    """By a probe of the small configuration that the plan names: all that can be said without the base."""
    missing = [site.name or OUTSIDE for site in uncovered(resolved.plan)]
    return counted("coverage", missing, "a probe of the plan's tiny configuration, random weights", TINY)

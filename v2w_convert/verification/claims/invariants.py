"""What each operation keeps of the base, at every site, with the site's real weights."""

import math
from collections.abc import Callable

import torch
from torch import nn

from v2w_convert.operations import Invariant
from v2w_convert.sites import Site
from v2w_convert.verification.claim import BEFORE_FINETUNING, Claim, ClaimSpec, join_names
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import WORLD, Cost
from v2w_convert.verification.report.fixes import advise_converting_again, fix_rules
from v2w_convert.world.model import World

INVARIANTS = ClaimSpec(
    "invariants",
    "equivalence",
    "Every operation keeps its invariants at every site",
    stages=BEFORE_FINETUNING,
    needs_base=True,
    fix=fix_rules(advise_converting_again),
    core=True,
)


def measure_invariants(
    base: nn.Module, world: World, rounding: float, check_time: Callable[[str], None] = lambda site: None
) -> list[Claim]:
    """Return one claim for each invariant of each operation, with the numbers of the worst site.

    Args:
        base: Float64, with its real weights.
        world: Float64, with its real weights.
        rounding: Relative rounding of the dtype in which the weights are stored.
        check_time: Called with the path of each site.
    """
    found: dict[tuple[str, str], dict[str, Invariant]] = {}
    for name, operation in world.resolved.sites.items():
        check_time(name)
        site = world.base.get_submodule(name)
        if not isinstance(site, Site):
            continue  # the base's own module; another claim finds that it does not see its past
        generator = torch.Generator().manual_seed(0)
        for invariant in operation.check_invariants(base.get_submodule(name), site, generator, rounding):
            found.setdefault((operation.name, invariant.sentence), {})[name] = invariant
    return [_claim(operation, sentence, at) for (operation, sentence), at in found.items()]


def _claim(operation: str, sentence: str, at: dict[str, Invariant]) -> Claim:
    worst = max(at, key=lambda name: _severity(at[name]))
    broken = sorted((name for name in at if not at[name].ok), key=lambda name: -_severity(at[name]))
    how = f"largest difference at the worst of {len(at)} sites, on random clips, float64; real weights"
    return INVARIANTS.result(
        at[worst].measured,
        allowed=at[worst].allowed,
        where=join_names(broken or [worst]),
        how=how + (f"; broken at {len(broken)}" if broken else ""),
        sentence=f"{operation}: {sentence}",
    )


def _severity(invariant: Invariant) -> float:
    if invariant.measured <= invariant.allowed:
        return invariant.measured / invariant.allowed if invariant.allowed else 0.0
    return invariant.measured / invariant.allowed if invariant.allowed else math.inf


def _measure(context: VerifyContext) -> list[Claim]:
    rounding = torch.finfo(context.stored_dtype).eps
    return measure_invariants(context.base, context.world, rounding, context.budget.check)


CHECKS = (Check("invariants of the operations", (INVARIANTS,), WORLD, _measure, Cost(passes=2, reads=2)),)

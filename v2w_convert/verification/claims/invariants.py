"""What each operation promises to keep, at every site, with the site's real weights."""

import math
from collections.abc import Callable

import torch
from torch import nn

from v2w_convert.operations import Invariant
from v2w_convert.sites import Site
from v2w_convert.verification.claim import Claim, listed
from v2w_convert.world.model import World


def promises(
    base: nn.Module, world: World, unit: float, progress: Callable[[str], None] = lambda site: None
) -> list[Claim]:
    """One claim for each sentence of each operation; `measured` and `allowed` are those of the worst site.

    base, world   float64, with their real weights
    unit          relative rounding of the dtype in which the weights are stored
    """
    found: dict[tuple[str, str], dict[str, Invariant]] = {}
    for name, operation in world.resolved.sites.items():
        progress(name)
        site = world.base.get_submodule(name)
        if not isinstance(site, Site):
            continue  # it keeps what the base does; that it does not see its past is another claim
        generator = torch.Generator().manual_seed(0)
        for kept in operation.check_invariants(base.get_submodule(name), site, generator, unit):
            found.setdefault((operation.name, kept.sentence), {})[name] = kept
    return [_claim(operation, sentence, at) for (operation, sentence), at in found.items()]


def _claim(operation: str, sentence: str, at: dict[str, Invariant]) -> Claim:
    worst = max(at, key=lambda name: _severity(at[name]))
    broken = sorted((name for name in at if not at[name].ok), key=lambda name: -_severity(at[name]))
    return Claim(
        "promises",
        at[worst].measured,
        at[worst].allowed,
        listed(broken or [worst]),
        f"largest difference at the worst of {len(at)} sites, on random clips, float64; real weights"
        + (f"; broken at {len(broken)}" if broken else ""),
        claim=f"{operation}: {sentence}",
    )


def _severity(kept: Invariant) -> float:
    if kept.measured <= kept.allowed:
        return kept.measured / kept.allowed if kept.allowed else 0.0
    return kept.measured / kept.allowed if kept.allowed else math.inf

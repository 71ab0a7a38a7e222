"""With every operation in its bidirectional form, the folded model equals the base.

This tests what surgery must not change: layout, positions, conditions and wiring. The causal form then differs from
the base by the operations alone.
"""

from collections.abc import Collection
from math import isclose
from typing import Literal

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import Visit, watched
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.inputs import base_call, latent_size, random_inputs, uniform
from v2w_convert.verification.engine.models import fold_base
from v2w_convert.verification.engine.phases import BASE_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import fix_rules
from v2w_convert.world.model import World

Means = tuple[int, float, float, float]

ALLOWED = 1e-9  # of the output's largest value, float64
FRAMES = 5

IDENTITY = ClaimSpec(
    "identity",
    "identity",
    "With every operation in its bidirectional form, the folded model equals the base",
    needs_base=True,
    fix=fix_rules(otherwise="`call` in the plan: the folded model does not receive what the base does"),
    core=True,
)


def measure_identity(base: nn.Module, world: World) -> Claim:
    """Compare the outputs of the base and of the folded model in its bidirectional form.

    Args:
        base: Float64; its zero-initialised layers are randomised.
        world: The world model, of which only the plan is used.
    """
    size, t = latent_size(world, oblong=True), world.resolved.frames(FRAMES)
    inputs = uniform(random_inputs(world, 2, t, seed=0, size=size), world)
    before = CallStatistics()
    with watched(base, before.record):
        expected = base_call(base, world, inputs)(inputs["latents"])

    folded = fold_base(base, world.resolved, world.action_dim)
    after = CallStatistics()
    with watched(folded.base, after.record):
        output = folded(**inputs, bidirectional=True)

    measured = max_abs_diff(output, expected) / float(expected.abs().max())
    where = ""
    if not measured <= ALLOWED:
        where = before.first_difference(after, base, world.resolved.sites) or MODEL_FORWARD
    how = (
        f"largest difference over the output's largest value, float64; {len(expected[0])} frames at one noise level, "
        "random conditions; the base's weights, zero-initialised layers randomised"
    )
    return IDENTITY.result(measured, allowed=ALLOWED, where=where, how=how)


class CallStatistics:
    """For every call of every module: means over all values of each tensor, which do not depend on how frames are folded.

    The values themselves would fill the memory, and a folded tensor has other axes than the base's. What the base
    receives once for a clip, the folded model receives once for every frame: the means are the same, too.

    Attributes:
        calls: Module path -> for each call, the statistics of its inputs and of its outputs.
    """

    def __init__(self) -> None:
        """Start with no calls."""
        self.calls: dict[str, list[tuple[list[Means], list[Means]]]] = {}

    def record(self, name: str, visit: Visit) -> None:
        """Add one call of the module `name`."""
        inputs, outputs = (
            [_means(x) for x in side if x.is_floating_point() and x.numel() > 0]
            for side in (visit.inputs, visit.outputs)
        )
        self.calls.setdefault(name, []).append((inputs, outputs))

    def first_difference(self, folded: "CallStatistics", base: nn.Module, sites: Collection[str]) -> str:
        """Return the first module, in order of completion, whose outputs differ although its inputs are the same.

        A prompt joined to frames has another weight in the means of a folded tensor: such tensors cannot be compared.
        If no module is found, it is the last module, before values differ, whose inputs are the same and whose
        outputs cannot be compared; else the site that contains the first module whose outputs differ.

        Args:
            folded: The statistics of the folded model; these are the base's.
            base: The base.
            sites: Paths of the sites.
        """
        # A module without parameters that is no site and receives numbers makes tables for their shape, of rotations
        # for example: those of a single frame differ in any case.
        tables = {name for name, module in base.named_modules() if not any(True for _ in module.parameters())}
        tables -= set(sites)
        first, suspect = "", ""
        for name, calls in self.calls.items():
            for before, after in zip(calls, folded.calls.get(name, []), strict=False):
                inputs, outputs = (_compare(a, b) for a, b in zip(before, after, strict=True))
                if inputs != "different" and name in tables and before[0]:
                    continue
                if inputs != "different" and outputs == "different":
                    return name
                if not first and inputs == "same" and outputs == "unknown":
                    suspect = name
                if outputs == "different":
                    first = first or name
        return first and (suspect or _site_of(first, sites))


def _site_of(name: str, sites: Collection[str]) -> str:
    """The innermost site that is the module or contains it; without one, the module."""
    parts = name.split(".")
    around = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((x for x in around if x in sites), name)


def _compare(a: list[Means], b: list[Means]) -> Literal["same", "different", "unknown"]:
    """Whether two lists of means are of the same values."""
    unknown = False
    for x, y in zip(a, b, strict=False):
        if y[0] % x[0]:
            unknown = True
        elif not all(isclose(a, b, rel_tol=1e-8, abs_tol=1e-12) for a, b in zip(x[1:], y[1:], strict=True)):
            return "different"
    return "unknown" if unknown else "same"


def _means(x: Tensor) -> Means:
    """The number of values, and means of them, of their absolute values and of their squares.

    Numbers, not tensors: among thousands of small tensors that stay, freed memory is not used again (3.5 GB of a model of
    1.5 billion numbers).
    """
    x = x.to(torch.float64)
    return x.numel(), float(x.mean()), float(x.abs().mean()), float((x**2).mean())


CHECKS = (
    Check(
        "identity",
        (IDENTITY,),
        BASE_RANDOMIZED,
        lambda c: [measure_identity(c.base, c.world)],
        Cost(passes=2),
    ),
)

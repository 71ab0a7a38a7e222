"""The identity claim: with every operation in its bidirectional form, the folded model is the base.

It tests what surgery must not change: layout, positions, conditions and wiring. What the causal form then
changes is the operations, and nothing else.
"""

from collections.abc import Collection
from copy import deepcopy

import torch
from torch import Tensor, nn

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.probe import Visit, watched
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.change import install_operations
from v2w_convert.verification.claims import MODEL_FORWARD, Claim
from v2w_convert.verification.inputs import base_call, random_inputs, uniform
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64
FRAMES = 5


def identity(base: nn.Module, world: World) -> Claim:
    """`base` is float64 and woken; of `world`, what its plan says is used."""
    inputs = uniform(random_inputs(world, 2, world.resolved.frames(FRAMES), seed=0))
    before = Spread()
    with watched(base, before.note):
        expected = base_call(base, world, inputs)(inputs["latents"])

    twin = folded(base, world.resolved, world.action_dim)
    after = Spread()
    with watched(twin.base, after.note):
        output = twin(**inputs, bidirectional=True)

    measured = max_abs_diff(output, expected) / float(expected.abs().max())
    return Claim(
        "identity",
        measured,
        ALLOWED,
        ""
        if measured <= ALLOWED
        else before.first_difference(after, base, world.resolved.sites) or MODEL_FORWARD,
        f"largest difference over the output's largest value, float64; {len(expected[0])} frames at one noise level, random "
        "conditions; the base's weights, zero layers woken",
    )


def folded(base: nn.Module, resolved: ResolvedPlan, action_dim: int) -> World:
    """The base's own weights under the operations of the plan, float64. `base` stays as it is, and shares its weights."""
    shared = {id(x): x for x in (*base.parameters(), *base.buffers())}
    twin = deepcopy(base, shared)
    install_operations(resolved, twin, action_dim)
    return World(twin, resolved, action_dim).to(torch.float64)


class Spread:
    """Of every call of every module, what does not depend on how frames are laid out: means over all values of each tensor.

    The values themselves would fill memory, and a folded tensor has other axes than the base's. What the base is given
    once for a clip, the folded model has once for every frame: that has the same means, too.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[list[Tensor], list[Tensor]]]] = {}

    def note(self, name: str, visit: Visit) -> None:
        inputs, outputs = ([_means(x) for x in side if _counts(x)] for side in (visit.inputs, visit.outputs))
        self.calls.setdefault(name, []).append((inputs, outputs))

    def first_difference(self, folded: "Spread", base: nn.Module, sites: Collection[str]) -> str:
        """The first module of `base` to complete that makes something else of the same.

        A prompt joined to frames has another share in the means of a folded tensor: such cannot be compared. Where no
        module is found, it is the last that makes what cannot be compared of what is the same, before values differ;
        else it happened in the site that holds the first whose outputs differ, or on the way to that.
        """
        # What has no parameters, is no site and is given numbers makes tables for their shape, of rotations say: those
        # of a single frame differ anyway.
        tables = {name for name, module in base.named_modules() if not any(True for _ in module.parameters())}
        tables -= set(sites)
        first, suspect = "", ""
        for name, calls in self.calls.items():
            for mine, its in zip(calls, folded.calls.get(name, []), strict=False):
                given, made = (_compared(a, b) for a, b in zip(mine, its, strict=True))
                if given != APART and name in tables and mine[0]:
                    continue
                if given != APART and made == APART:
                    return name
                if not first and given == SAME and made == UNKNOWN:
                    suspect = name
                if made == APART:
                    first = first or name
        return first and (suspect or _site_of(first, sites))


def _site_of(name: str, sites: Collection[str]) -> str:
    """The innermost site that is the module, or holds it; without one, the module."""
    parts = name.split(".")
    around = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((x for x in around if x in sites), name)


SAME, APART, UNKNOWN = "same", "apart", "unknown"


def _compared(a: list[Tensor], b: list[Tensor]) -> str:
    """Whether two lists of means tell of the same values."""
    found = set()
    for x, y in zip(a, b, strict=False):
        if int(y[0]) % int(x[0]):
            found.add(UNKNOWN)
        else:
            found.add(SAME if torch.allclose(x[1:], y[1:], rtol=1e-8, atol=1e-12) else APART)
    return next((kind for kind in (APART, UNKNOWN) if kind in found), SAME)


def _counts(x: Tensor) -> bool:
    return x.is_floating_point() and x.numel() > 0


def _means(x: Tensor) -> Tensor:
    """How many values, and means of them, of their sizes and of their squares."""
    x = x.to(torch.float64)
    return torch.stack([x.new_tensor(x.numel()), x.mean(), x.abs().mean(), (x**2).mean()])

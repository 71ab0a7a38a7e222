"""Every tensor is what the plan makes of the base's, bit for bit."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.change import TensorStatus, added_tensors, initial_tensor, transfer_tensor
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.surgery.model_files import stored_dtype
from v2w_convert.verification.claim import BEFORE_FINETUNING, Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import FILES, HEADERS, Cost
from v2w_convert.verification.report.fixes import CONVERT_AGAIN, fix_text

COMPLETE = ClaimSpec(
    "tensors-complete",
    "equivalence",
    "The model has exactly the tensors that the plan describes",
    fix=fix_text(CONVERT_AGAIN),
    core=True,
)
BASE_COMPLETE = ClaimSpec(
    "base-tensors-complete",
    "equivalence",
    "The base has exactly the tensors that its config describes",
    needs_base=True,
    fix=fix_text("--base: a base whose files are complete; v2w.json has their names and hashes"),
    core=True,
)
KEPT, TRANSFERRED, ADDED, EXACT = (
    ClaimSpec(
        id,
        "equivalence",
        sentence,
        stages=BEFORE_FINETUNING,
        needs_base=True,
        fix=fix_text(CONVERT_AGAIN),
        core=True,
    )
    for id, sentence in (
        ("tensors-kept", "Every kept tensor equals the base's, bit for bit"),
        ("tensors-transferred", "Every transferred tensor is what the plan makes of the base's, bit for bit"),
        ("tensors-added", "Every added tensor is what the manifest's seed gives, bit for bit"),
        (
            "transfer-rounding",
            "Every transferred number is within one unit in the last place of float64 arithmetic",
        ),
    )
)
BY_STATUS: dict[TensorStatus, ClaimSpec] = {"kept": KEPT, "transferred": TRANSFERRED, "added": ADDED}


def measure_completeness(converted: Source, resolved: ResolvedPlan, manifest: Manifest) -> Claim:
    """Count missing, unknown and misshapen tensors. Only headers are read."""
    expected = _shapes(resolved.base) | added_tensors(resolved, resolved.base, manifest.action_dim)
    return _compare(COMPLETE, converted, expected)


def measure_base_completeness(base: Source, resolved: ResolvedPlan) -> Claim:
    """Count the base's missing, unknown and misshapen tensors, by the converted model's config."""
    return _compare(BASE_COMPLETE, base, _shapes(resolved.base))


def measure_values(
    base: Source,
    converted: Source,
    resolved: ResolvedPlan,
    manifest: Manifest,
    check_time: Callable[[str], None] = lambda name: None,
) -> list[Claim]:
    """Compare the values of all tensors, of which one at a time is in memory.

    Args:
        base: The base's files, complete.
        converted: The converted model's files, complete.
        resolved: The plan.
        manifest: The converted folder's record.
        check_time: Called with the name of each tensor.
    """
    new = added_tensors(resolved, resolved.base, manifest.action_dim)
    new_dtype = stored_dtype(base)
    broken: dict[TensorStatus, list[str]] = {status: [] for status in BY_STATUS}
    count: dict[TensorStatus, int] = dict.fromkeys(BY_STATUS, 0)
    worst, worst_name = 0.0, ""
    for name, info in converted.tensors.items():
        check_time(name)
        status: TensorStatus = "added"
        if name in new:
            expected = initial_tensor(resolved, name, new[name], manifest.seed).to(new_dtype)
        else:
            source = read_tensor(base.tensors[name])
            transferred = transfer_tensor(resolved, name, source)
            status, expected = ("kept", source) if transferred is None else ("transferred", transferred)
            if transferred is not None:
                exact = transfer_tensor(resolved, name, source.double())
                assert exact is not None
                error = last_place_error(read_tensor(info), exact)
                if error > worst:
                    worst, worst_name = error, name
        count[status] += 1
        if manifest.tensors.get(name) != status or not _identical(expected, read_tensor(info)):
            broken[status].append(name)
    claims = [
        spec.count(broken[status], f"bytes of {count[status]} tensors, and their status in the manifest")
        for status, spec in BY_STATUS.items()
    ]
    how = (
        f"units in the last place, at the worst number of {count['transferred']} tensors; compared with the same "
        "transfer of the base's numbers in float64"
    )
    return [*claims, EXACT.result(worst, allowed=1.0, where=worst_name, how=how)]


def last_place_error(found: Tensor, exact: Tensor) -> float:
    """Return the largest difference between `found` and `exact` (float64), in units in the last place of `found`'s dtype.

    Infinite if the shapes differ, or if anything is not finite.
    """
    if found.shape != exact.shape or not found.is_floating_point():
        return math.inf
    kind = torch.finfo(found.dtype)
    exponents = torch.frexp(exact).exponent - 1
    unit = torch.ldexp(torch.full_like(exact, kind.eps), exponents).clamp(min=kind.smallest_normal * kind.eps)
    error = float(((found.double() - exact).abs() / unit).max()) if exact.numel() else 0.0
    return error if math.isfinite(error) else math.inf


def _identical(a: Tensor, b: Tensor) -> bool:
    """Whether dtype, shape and bytes are the same: a NaN equals itself, and 0 is not -0."""
    same_kind = a.dtype == b.dtype and a.shape == b.shape
    return same_kind and torch.equal(*(x.contiguous().flatten().view(torch.uint8) for x in (a, b)))


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _compare(spec: ClaimSpec, source: Source, expected: dict[str, tuple[int, ...]]) -> Claim:
    found = {name: info.shape for name, info in source.tensors.items()}
    broken = [
        tensor for tensor in expected.keys() | found.keys() if found.get(tensor) != expected.get(tensor)
    ]
    how = f"names and shapes of {len(found)} tensors; the number of missing, unknown and misshapen ones"
    return spec.count(sorted(broken), how)


def _measure_base_completeness(context: VerifyContext) -> list[Claim]:
    assert context.origin is not None
    return [measure_base_completeness(context.origin, context.resolved)]


def _measure_values(context: VerifyContext) -> list[Claim]:
    assert context.origin is not None
    return measure_values(
        context.origin, context.source, context.resolved, context.manifest, context.budget.check
    )


CHECKS = (
    Check(
        "headers",
        (COMPLETE,),
        HEADERS,
        lambda c: [measure_completeness(c.source, c.resolved, c.manifest)],
    ),
    Check("headers of the base", (BASE_COMPLETE,), HEADERS, _measure_base_completeness),
    Check("tensors", (*BY_STATUS.values(), EXACT), FILES, _measure_values, Cost(reads=2)),
)

"""Every tensor is what the plan makes of the base's, to the bit."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.change import TensorStatus, added_tensors, initial_tensor, transfer_tensor
from v2w_convert.surgery.convert import stored_dtype
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.verification.claim import Claim, counted

FATES: tuple[TensorStatus, ...] = ("kept", "transferred", "added")
CLAIMS = (*(f"tensors-{fate}" for fate in FATES), "tensors-exact")


def complete(converted: Source, resolved: ResolvedPlan, manifest: Manifest) -> Claim:
    """None is missing, none is unknown, all have their shapes. Headers alone are read."""
    expected = _shapes(resolved.base) | added_tensors(resolved, resolved.base, manifest.action_dim)
    return _compare("tensors-complete", converted, expected)


def base_complete(base: Source, resolved: ResolvedPlan) -> Claim:
    """The same for the base, by the converted model's config."""
    return _compare("base-tensors-complete", base, _shapes(resolved.base))


def surgical(
    base: Source,
    converted: Source,
    resolved: ResolvedPlan,
    manifest: Manifest,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Claim]:
    """The values of all tensors, one claim for each fate; one tensor at a time is in memory. Both are complete."""
    new = added_tensors(resolved, resolved.base, manifest.action_dim)
    new_dtype = stored_dtype(base)
    broken: dict[TensorStatus, list[str]] = {fate: [] for fate in FATES}
    count: dict[TensorStatus, int] = dict.fromkeys(FATES, 0)
    far, farthest = 0.0, ""
    for name, info in converted.tensors.items():
        progress(name)
        fate: TensorStatus = "added"
        if name in new:
            expected = initial_tensor(resolved, name, new[name], manifest.seed).to(new_dtype)
        else:
            source = read_tensor(base.tensors[name])
            change = transfer_tensor(resolved, name, source)
            fate, expected = ("kept", source) if change is None else ("transferred", change)
            if change is not None:
                wide = transfer_tensor(resolved, name, source.double())
                assert wide is not None
                places = last_places(read_tensor(info), wide)
                if places > far:
                    far, farthest = places, name
        count[fate] += 1
        if manifest.tensors.get(name) != fate or not _identical(expected, read_tensor(info)):
            broken[fate].append(name)
    return [
        counted(
            f"tensors-{fate}",
            broken[fate],
            f"bytes of {count[fate]} tensors, and their fates in the manifest",
        )
        for fate in FATES
    ] + [
        Claim(
            "tensors-exact",
            far,
            1.0,
            farthest,
            f"units in the last place, at the worst number of {count['transferred']} tensors; the same transfer of the base's "
            "numbers in float64",
        )
    ]


def last_places(found: Tensor, exact: Tensor) -> float:
    """How far `found` is from `exact` (float64), in units in the last place of its own dtype; at the worst number."""
    if found.shape != exact.shape or not found.is_floating_point():
        return math.inf
    kind = torch.finfo(found.dtype)
    exponents = torch.frexp(exact).exponent - 1
    unit = torch.ldexp(torch.full_like(exact, kind.eps), exponents).clamp(min=kind.smallest_normal * kind.eps)
    far = float(((found.double() - exact).abs() / unit).max()) if exact.numel() else 0.0
    return far if math.isfinite(far) else math.inf


def _identical(a: Tensor, b: Tensor) -> bool:
    """Same dtype, shape and bytes: a NaN equals itself, and 0 is not -0."""
    same_kind = a.dtype == b.dtype and a.shape == b.shape
    return same_kind and torch.equal(*(x.contiguous().flatten().view(torch.uint8) for x in (a, b)))


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _compare(name: str, source: Source, expected: dict[str, tuple[int, ...]]) -> Claim:
    found = {name: info.shape for name, info in source.tensors.items()}
    broken = [
        tensor for tensor in expected.keys() | found.keys() if found.get(tensor) != expected.get(tensor)
    ]
    how = f"names and shapes of {len(found)} tensors; counted are missing, unknown and misshapen ones"
    return counted(name, sorted(broken), how)

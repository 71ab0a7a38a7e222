import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from v2w_convert.checkpoint.open import open_source
from v2w_convert.operations.causal_conv import transfer_kernel
from v2w_convert.surgery.change import TensorStatus
from v2w_convert.surgery.load import open_converted
from v2w_convert.verification.claims.tensors import (
    last_place_error,
    measure_base_completeness,
    measure_completeness,
    measure_values,
)

NORMS = ("conv_norm_out.weight", "conv_norm_out.bias")
KERNEL = "mid_block.resnets.0.temporal_res_block.conv1.weight"
NONE = "time_embedding.v2w_action.none"


def broken(folder: Path, base: Path) -> dict[str, str]:
    manifest, source, resolved = open_converted(folder)
    claims = measure_values(open_source(base), source, resolved, manifest)
    return {claim.id: claim.where for claim in claims if not claim.ok}


def test_unbroken(tiny_converted: Path, tiny_base: Path) -> None:
    assert broken(tiny_converted, tiny_base) == {}
    manifest, source, resolved = open_converted(tiny_converted)
    assert measure_completeness(source, resolved, manifest).ok
    assert measure_base_completeness(open_source(tiny_base), resolved).ok


@pytest.mark.parametrize(
    ("fate", "name", "change"),
    [
        (
            "kept",
            "conv_in.bias",
            lambda x: (x.view(torch.int16) + 1).view(x.dtype),
        ),  # one unit in the last place
        ("kept", "conv_in.weight", lambda x: x.bfloat16()),
        ("kept", "conv_in.weight", lambda x: x.transpose(2, 3).contiguous()),
        ("transferred", KERNEL, lambda x: x.flip(0)),
        ("added", NONE, lambda x: x.flip(0)),
    ],
)
def test_one_changed_tensor_is_named(
    rewritten: Callable[..., Path],
    tiny_base: Path,
    fate: TensorStatus,
    name: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    def spoil(found: dict[str, Tensor]) -> None:
        if name in found:
            found[name] = change(found[name])

    names = [f"tensors-{fate}", *(["transfer-rounding"] if fate == "transferred" else [])]
    assert broken(rewritten(spoil), tiny_base) == dict.fromkeys(names, name)


def test_one_unit_in_the_last_place_changes_a_tensor_and_two_are_inexact(
    rewritten: Callable[..., Path], tiny_base: Path
) -> None:
    def nudge(places: int) -> Callable[[dict[str, Tensor]], None]:
        def change(found: dict[str, Tensor]) -> None:
            if KERNEL in found:
                found[KERNEL].view(torch.int16)[0, 0, -1] += places

        return change

    folder = rewritten(nudge(1))
    assert broken(folder, tiny_base) == {"tensors-transferred": KERNEL}
    shutil.rmtree(folder)
    assert broken(rewritten(nudge(2)), tiny_base) == {
        "tensors-transferred": KERNEL,
        "transfer-rounding": KERNEL,
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_transfers_are_exact_to_the_last_place(dtype: torch.dtype, k: int) -> None:
    weight = torch.randn(64, 64, k, generator=torch.Generator().manual_seed(0)).to(dtype)
    for points in range(k + 1):
        assert (
            last_place_error(transfer_kernel(weight, points), transfer_kernel(weight.double(), points))
            <= 0.51
        )


def test_last_place_error() -> None:
    exact = torch.tensor([1.0, -3.0, 0.0], dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        found = exact.to(dtype)
        assert last_place_error(found, exact) == 0
        found[1] -= 2 * torch.finfo(dtype).eps
        assert last_place_error(found, exact) == 1
    assert last_place_error(exact[:2], exact) == math.inf
    assert last_place_error(exact * math.nan, exact) == math.inf


def test_two_swapped_tensors_are_named(rewritten: Callable[..., Path], tiny_base: Path) -> None:
    a, b = NORMS

    def swap(found: dict[str, Tensor]) -> None:
        if a in found:
            found[a], found[b] = found[b], found[a]

    assert set(broken(rewritten(swap), tiny_base)["tensors-kept"].split(", ")) == {a, b}


def test_a_wrong_tensor_status_in_the_manifest(
    rewritten: Callable[..., Path], tiny_converted: Path, tiny_base: Path
) -> None:
    fates = open_converted(tiny_converted)[0].tensors
    folder = rewritten(tensors=fates | {KERNEL: "kept"})
    assert broken(folder, tiny_base) == {"tensors-transferred": KERNEL}


def test_missing_unknown_and_misshapen_tensors_are_named(tiny_converted: Path, tiny_base: Path) -> None:
    manifest, source, resolved = open_converted(tiny_converted)
    kernel = source.tensors.pop(KERNEL)
    source.tensors["unknown"] = kernel
    source.tensors[NONE] = kernel
    assert set(measure_completeness(source, resolved, manifest).where.split(", ")) == {
        KERNEL,
        "unknown",
        NONE,
    }
    base = open_source(tiny_base)
    del base.tensors["conv_in.bias"]
    assert measure_base_completeness(base, resolved).where == "conv_in.bias"

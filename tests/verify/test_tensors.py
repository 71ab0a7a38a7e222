from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from v2w_convert.checkpoint.source import open_source
from v2w_convert.surgery.change import Fate
from v2w_convert.surgery.load import open_converted
from v2w_convert.verify.tensors import SENTENCES, base_complete, complete, surgical

NORMS = ("conv_norm_out.weight", "conv_norm_out.bias")
KERNEL = "mid_block.resnets.0.temporal_res_block.conv1.weight"
NONE = "time_embedding.v2w_action.none"


def broken(folder: Path, base: Path) -> dict[str, str]:
    manifest, source, resolved = open_converted(folder)
    claims = surgical(open_source(base), source, resolved, manifest)
    return {claim.claim: claim.where for claim in claims if not claim.ok}


def test_unbroken(tiny_converted: Path, tiny_base: Path) -> None:
    assert broken(tiny_converted, tiny_base) == {}
    manifest, source, resolved = open_converted(tiny_converted)
    assert complete(source, resolved, manifest).ok
    assert base_complete(open_source(tiny_base), resolved).ok


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
    rewritten: Callable[..., Path], tiny_base: Path, fate: Fate, name: str, change: Callable[[Tensor], Tensor]
) -> None:
    def spoil(found: dict[str, Tensor]) -> None:
        if name in found:
            found[name] = change(found[name])

    assert broken(rewritten(spoil), tiny_base) == {SENTENCES[fate]: name}


def test_two_swapped_tensors_are_named(rewritten: Callable[..., Path], tiny_base: Path) -> None:
    a, b = NORMS

    def swap(found: dict[str, Tensor]) -> None:
        if a in found:
            found[a], found[b] = found[b], found[a]

    assert set(broken(rewritten(swap), tiny_base)[SENTENCES["kept"]].split(", ")) == {a, b}


def test_a_fate_that_the_manifest_tells_wrongly(
    rewritten: Callable[..., Path], tiny_converted: Path, tiny_base: Path
) -> None:
    fates = open_converted(tiny_converted)[0].tensors
    folder = rewritten(tensors=fates | {KERNEL: "kept"})
    assert broken(folder, tiny_base) == {SENTENCES["transferred"]: KERNEL}


def test_missing_unknown_and_misshapen_tensors_are_named(tiny_converted: Path, tiny_base: Path) -> None:
    manifest, source, resolved = open_converted(tiny_converted)
    kernel = source.tensors.pop(KERNEL)
    source.tensors["unknown"] = kernel
    source.tensors[NONE] = kernel
    assert set(complete(source, resolved, manifest).where.split(", ")) == {KERNEL, "unknown", NONE}
    base = open_source(tiny_base)
    del base.tensors["conv_in.bias"]
    assert base_complete(base, resolved).where == "conv_in.bias"

"""Weights that stay on disk: the same numbers, whatever is computed with them, and next to no memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from tests.mutations import faults
from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.open import open_source
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.surgery.load import open_converted
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims import (
    actions,
    causality,
    coverage,
    gradients,
    identity,
    invariants,
    receptive_field,
    streaming,
)
from v2w_convert.verification.engine import weights
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.models import Models, open_base, open_world
from v2w_convert.verification.engine.weights import DiskTensor, read_weights

CONV = "down_blocks.1.resnets.0.temporal_res_block.conv2"
ATTENTION = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every tensor were a large one."""
    monkeypatch.setattr(weights, "ALWAYS_HELD", 0)


@pytest.fixture
def linear(tmp_path: Path) -> Iterator[tuple[nn.Linear, nn.Linear]]:
    """A layer in memory, and the same on disk: 3 -> 4, with a zero in it."""
    stored = {"weight": torch.randn(4, 3).half(), "bias": torch.zeros(4).half()}
    stored["weight"][1, 2] = 0
    save_file(stored, tmp_path / "linear.safetensors")
    info = read_header(tmp_path / "linear.safetensors")
    layers = []
    for room in (float("inf"), 0.0):
        with torch.device("meta"):
            layer = nn.Linear(3, 4)
        layer.load_state_dict(read_weights(info, torch.float64, room), assign=True)
        layers.append(layer.requires_grad_(False))
    yield layers[0], layers[1]


def models(converted: Path, base: Path, room: float) -> Models:
    return Models(open_world(open_converted(converted), memory=room), open_base(open_source(base), room))


def claims(models: Models) -> list[Claim]:
    """Of every kind that runs a model."""
    world, base = models.world, models.base
    assert base is not None
    found = [*invariants.measure_invariants(base, world, 1e-3), actions.measure_no_effect(world)]
    randomize_zero_init(world.base)
    randomize_zero_init(base)
    found += [
        coverage.measure_coverage(coverage.base_sites(base, world), world.resolved),
        identity.measure_identity(base, world),
    ]
    found += [
        *actions.measure_effects(world, "zero-initialised layers randomised"),
        causality.measure_causality(world),
        causality.measure_batch_independence(world),
    ]
    found += [receptive_field.measure_receptive_field(world), *receptive_field.measure_sites(world)]
    found += [*gradients.measure_gradients(world), *streaming.measure_streaming(world)]
    return found


@pytest.mark.slow
def test_every_claim_is_the_same_to_the_bit(
    tiny_converted: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "ALWAYS_HELD", 1000)
    with exact():
        held, unread = (models(tiny_converted, tiny_base, room) for room in (float("inf"), 0.0))
        assert sum(isinstance(x, DiskTensor) for x in unread.world.base.parameters()) > 100
        assert not any(isinstance(x, DiskTensor) for x in held.world.base.parameters())
        found = claims(unread)
        assert found == claims(held)
    assert all(claim.ok for claim in found)


@pytest.mark.parametrize("site", [CONV, ATTENTION])
def test_a_leak_is_found_and_named(tiny_converted: Path, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "ALWAYS_HELD", 1000)
    world = open_world(open_converted(tiny_converted), memory=0)
    randomize_zero_init(world.base)
    faults.sees_future(world.base.get_submodule(site))
    claim = causality.measure_causality(world)
    assert not claim.ok
    assert claim.where == site
    assert not gradients.measure_gradients(world)[0].ok


def test_as_many_weights_as_fit_are_held(on_disk: None, tiny_base: Path) -> None:
    tensors = open_source(tiny_base).tensors
    whole = 8 * weights.count_numbers(tensors)
    for room in (whole, whole / 2, 0):
        read = read_weights(tensors, torch.float64, room)
        assert list(read) == list(tensors)
        held = sum(x.numel() * 8 for x in read.values() if not isinstance(x, DiskTensor))
        assert room - whole / 10 < held <= room


def test_any_function_computes_with_the_values(on_disk: None, linear: tuple[nn.Linear, nn.Linear]) -> None:
    held, unread = linear
    assert isinstance(unread.weight, nn.Parameter) and isinstance(unread.weight, DiskTensor)
    x = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(unread(x), held(x))
    assert torch.equal(x @ unread.weight.t(), x @ held.weight.t())
    assert torch.equal(F.linear(x, unread.weight[1:3]), F.linear(x, held.weight[1:3]))
    assert torch.equal(
        unread.weight.T.view(1, 3, 4).permute(2, 0, 1) + 1, held.weight.T[None].permute(2, 0, 1) + 1
    )
    assert unread.weight.dtype == torch.float64
    several = torch.randn(5, 2, 3, dtype=torch.float64)
    assert torch.equal(unread(several), held(several))
    assert torch.equal(F.linear(several, unread.weight), F.linear(several, held.weight))
    parts = unread.weight.split(2)  # they do not lie where the next values are read to
    assert torch.equal(
        torch.cat([parts[0], unread.weight + 1, parts[1]]),
        torch.cat([held.weight[:2], held.weight + 1, held.weight[2:]]),
    )


def test_randomised_layers_are_kept_though_the_file_is_not_written(
    on_disk: None, linear: tuple[nn.Linear, nn.Linear], tmp_path: Path
) -> None:
    held, unread = linear
    before = (tmp_path / "linear.safetensors").read_bytes()
    assert randomize_zero_init(held) == randomize_zero_init(unread) == 2
    assert torch.equal(unread.weight + 0, held.weight)
    assert (unread.weight != 0).all() and (unread.bias != 0).all()
    assert torch.equal(unread.weight.t() + 0, held.weight.t())
    assert (tmp_path / "linear.safetensors").read_bytes() == before
    assert unread.weight.written is not None and len(unread.weight.written[0]) == 1


def test_other_changes_in_place_are_refused(on_disk: None, linear: tuple[nn.Linear, nn.Linear]) -> None:
    with pytest.raises(NotImplementedError, match="not in memory"):
        linear[1].weight.mul_(2)


def test_gradients_keep_no_weights(on_disk: None, linear: tuple[nn.Linear, nn.Linear]) -> None:
    """A backward reads them again."""
    kept: list[torch.Tensor] = []
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(lambda y: kept.append(y) or y, lambda y: y),
    ):
        output = linear[1](x).sum()
    assert [type(y) for y in kept if y.shape != x.shape] == [DiskTensor] * len(kept)
    assert torch.equal(torch.autograd.grad(output, x)[0], linear[0].weight.sum(0).expand(2, 3))


# A process of its own: what other tests have freed would be counted or reused, as it happens.
PASS = """
import sys
from pathlib import Path
import torch
from torch import nn
from v2w_convert.checkpoint.headers import read_header
from v2w_convert.verification.engine.weights import DiskTensor, read_weights
def anonymous():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024
file, wide, deep, memory = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with torch.device("meta"):
    model = nn.Sequential(*(nn.Linear(wide, wide, bias=False) for _ in range(deep))).requires_grad_(False)
small = torch.zeros(4, 4, dtype=torch.float64)
nn.functional.linear(small, DiskTensor(lambda: small, small.to("meta")))  # what the first product brings in
info, x = read_header(file), torch.zeros(1, wide, dtype=torch.float64)
before, peaks = anonymous(), []
for layer in model:
    layer.register_forward_hook(lambda *_: peaks.append(anonymous()))
model.load_state_dict(read_weights(info, torch.float64, memory=memory), assign=True)
model(x)
print(max(peaks) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_a_pass_takes_the_memory_of_a_layer(tmp_path: Path) -> None:
    wide, deep = 2048, 8
    whole = deep * wide * wide * 8
    names = [f"{number}.weight" for number in range(deep)]
    file = tmp_path / "deep.safetensors"
    save_file({name: torch.ones(wide, wide).bfloat16() for name in names}, file)

    def peak(memory: float) -> int:
        arguments = [str(file), str(wide), str(deep), str(memory)]
        at_once = {"MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed goes back to the system at once
        done = subprocess.run(
            [sys.executable, "-c", PASS, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | at_once,
        )
        return int(done.stdout)

    assert peak(memory=0) < 1.5 * whole / deep
    assert whole * 0.9 < peak(memory=float("inf")) < whole * 1.1  # and no weight twice

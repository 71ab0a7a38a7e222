"""One model at a time, and no longer than was allowed; what was left out is said."""

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.open import open_source
from v2w_convert.cli import run as v2w
from v2w_convert.surgery.load import open_converted
from v2w_convert.verification import run
from v2w_convert.verification.claims import SPECS, causality, coverage
from v2w_convert.verification.engine import budget, phases, weights
from v2w_convert.verification.engine.budget import Budget, OutOfTime, estimate
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.models import open_base, open_world
from v2w_convert.verification.engine.weights import DiskTensor
from v2w_convert.verification.run import verify
from v2w_convert.verification.settings import VerifySettings
from v2w_convert.world.model import World


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def held(model: nn.Module) -> bool:
    return not any(isinstance(x, DiskTensor) for x in model.parameters())


class Opened:
    """The models that verification opens with weights in memory: no weight of one may be left when the next is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: list[list[weakref.ref[Tensor]]] = []
        monkeypatch.setattr(weights, "ALWAYS_HELD", 0)  # the base is opened on disk beside the world model
        monkeypatch.setattr(phases, "open_base", self.watch(open_base))
        monkeypatch.setattr(phases, "open_world", self.watch(open_world))

    def watch(self, open_model: Any) -> Any:
        def opens(*arguments: Any, **options: Any) -> Any:
            model = open_model(*arguments, **options)
            if held(model):
                assert [ref() for kept in self.models for ref in kept if ref() is not None] == []
                self.models.append([weakref.ref(weight) for weight in model.parameters()])
            return model

        return opens


def test_the_two_models_are_never_in_memory_together(
    tiny_converted: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This is about which model is open when: nothing is measured.
    of_one = [phase for phase in phases.PHASES if phase is not phases.EXPERTS]  # that one needs two denoisers
    checks = [Check(phase.name, (), phase, lambda context: []) for phase in of_one]
    monkeypatch.setattr(run, "CHECKS", checks)
    opened = Opened(monkeypatch)
    assert verify(tiny_converted, tiny_base).ok
    # the base, the world model, that in the stored precision, that which is trained, and that of all modes
    assert len(opened.models) == 5


@pytest.mark.slow
def test_what_is_measured_of_a_model_keeps_no_part_of_it(
    tiny_converted: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LARGE_MODEL", 0)
    opened = Opened(monkeypatch)
    assert verify(tiny_converted, tiny_base).ok
    assert len(opened.models) == 5


@pytest.mark.slow
def test_a_model_too_large_for_the_memory_is_verified_all_the_same(
    tiny_converted: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "ALWAYS_HELD", 4000)
    assert v2w(["verify", str(tiny_converted), "--base", str(tiny_base), "--memory", "0", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert result["ok"] and result["not_measured"] == 0
    assert result["figures"]["budget"]["weights_held"] == 0
    took = result["figures"]["budget"]["seconds_by_check"]
    assert len(took) > 10 and 0 < sum(took.values()) <= result["figures"]["budget"]["seconds"] + 1
    assert "0% can be held in memory" in err


def test_a_budget_of_zero_measures_nothing_says_so_and_ends_with_3(
    tiny_converted: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", str(tiny_converted), "--base", str(tiny_base), "--budget", "0", "--json"]
    assert v2w([*command, "-o", str(tmp_path / "report")]) == 3
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    unmeasured = [claim for claim in result["claims"] if claim["measured"] is None]
    assert (
        result["not_measured"] == len(unmeasured) == len(result["claims"]) - 2
    )  # files' headers are read first
    one_denoiser = {
        spec.id for spec in SPECS.values() if spec.topic != "experts" and "converted" in spec.stages
    }
    one_denoiser.remove("stored-prompt")  # no prompt was encoded
    assert {claim["id"] for claim in result["claims"]} == one_denoiser
    assert all("the budget of 0 minutes was used up" in claim["how"] for claim in unmeasured)
    assert f"{len(unmeasured)} were not measured" in " ".join(err.split())
    assert result["figures"]["budget"]["unmeasured"] == [claim["id"] for claim in unmeasured]
    core = [spec.id for spec in SPECS.values() if spec.core and spec.topic != "experts"]
    assert not result["ok"]
    assert sorted(result["missing"]) == sorted(set(core) & {claim["id"] for claim in unmeasured})
    assert {"causal", "identity", "stream-by-block"} <= set(result["missing"])
    assert f"not verified: of the core, {', '.join(result['missing'])}" in " ".join(err.split())
    for name in ("report.html", "summary.md"):
        text = (tmp_path / "report" / name).read_text()
        assert "Not verified" in text and "stream-by-block" in text, name


@pytest.mark.slow
def test_what_the_budget_still_allowed_is_measured(
    tiny_converted: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The world model's last parts are given up in the middle of a forward; the base's and the stored precision are not."""
    clock = Clock()
    seen = causality.measure_causality

    def lasting(world: World, *rest: Any, **more: Any) -> Any:
        if world.dtype == torch.float64:
            clock.now = 60 * 9.5  # beyond the world model's share
        return seen(world, *rest, **more)

    monkeypatch.setattr(causality, "measure_causality", lasting)
    monkeypatch.setattr(run, "Budget", lambda minutes: Budget(minutes, clock))
    report = verify(tiny_converted, tiny_base, VerifySettings(budget=10))
    found = {claim.id: claim for claim in report.claims}
    assert report.exit_code == 3
    for name in (
        "identity",
        "coverage",
        "invariants",
        "actions-no-effect-before-training",
        "causal-stored",
        "deterministic-stored",
    ):
        assert found[name].measured is not None, name
    for name in ("causal", "receptive-field", "stream-by-block", "gradients-causal"):
        assert found[name].measured is None, name
        assert found[name].how == (
            "not measured: the budget of 10 minutes was used up; this phase may use 90% of it"
        )
    assert report.figures["budget"]["unmeasured"] == [c.id for c in report.claims if c.measured is None]


def test_a_failure_within_the_budget_still_fails(
    tiny_converted: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    def failing(*given: Any) -> Any:
        clock.now = 600.0
        return coverage.COVERAGE.count(["somewhere"], "")

    monkeypatch.setattr(coverage, "measure_coverage", failing)
    monkeypatch.setattr(run, "Budget", lambda minutes: Budget(minutes, clock))
    report = verify(tiny_converted, tiny_base, VerifySettings(budget=10))
    assert [claim.id for claim in report.claims if not claim.ok] == ["coverage"]
    assert not report.ok


def test_no_forward_begins_when_the_time_is_up() -> None:
    clock = Clock()
    time = Budget(1, clock)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    time.watch(model, [model[1]])
    x = torch.zeros(1, 2)
    model(x)
    clock.now = 60
    for module in (model, model[1]):
        with pytest.raises(OutOfTime):
            module(x)
    model[0](x)
    time.share = 2
    model(x)


def test_the_estimate_counts_activations_and_weights_that_fit(tiny_converted: Path) -> None:
    world, source = open_world(open_converted(tiny_converted), memory=0), open_source(tiny_converted)
    clock = Clock()

    def slow(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        clock.now += 1 + output.shape[1]  # a second to read the weights, and one for each frame

    world.register_forward_hook(slow, with_kwargs=True)
    whole = 8 * weights.count_numbers(source.tensors)
    nothing = estimate(world, source, 0, clock)
    assert (nothing.read_seconds, nothing.pass_seconds, nothing.held_share) == (2, 14, 0)
    assert nothing.memory > budget.PROGRAM_BYTES
    activations = (estimate(world, source, 0, clock, size=2).memory - nothing.memory) / 2
    half = estimate(world, source, nothing.memory - activations + whole / 2, clock)
    assert half.weight_memory == max(0, whole / 2 - activations)  # beside the base's recorded calls
    assert half.held_share == pytest.approx(0.5)
    assert half.read_seconds == pytest.approx(1)
    assert half.pass_seconds == pytest.approx(13)
    everything = estimate(world, source, None, clock)
    assert everything.held_share == 1
    assert everything.read_seconds == 0.5
    assert everything.memory == pytest.approx(nothing.memory + whole)

"""`verify` of a model with two denoisers: every claim of each, and that each is asked in its range."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pairs import BOUNDARY, convert_pair, write_pair
from tests.world.test_experts import tiny_experts
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims.experts import boundary_levels, measure_experts
from v2w_convert.verification.result import VerifyReport
from v2w_convert.verification.run import verify
from v2w_convert.world.experts import ExpertsWorld

LIMIT = 1000 * BOUNDARY


def measured(world: ExpertsWorld) -> dict[str, Claim]:
    return {claim.id: claim for claim in measure_experts(world, LIMIT)}


def test_the_claims_hold() -> None:
    assert all(claim.ok for claim in measured(tiny_experts().double()).values())


def test_the_two_levels_next_to_the_boundary() -> None:
    below, above = boundary_levels(tiny_experts().noise, LIMIT)
    assert float(above) == BOUNDARY and float(below) == float(torch.nextafter(above, torch.tensor(0.0)))


def shows_the_history_to_one(
    self: ExpertsWorld, state: Any, *args: Any, commit: bool = False, **kwargs: Any
) -> Any:
    output, after = FORWARD_STREAMED(self, state, *args, commit=commit, **kwargs)
    if commit:
        kept = {
            name: state.sites[name] if name.startswith("low") else value
            for name, value in after.sites.items()
        }
        after = after._replace(sites=kept)
    return output, after


FORWARD_STREAMED = ExpertsWorld.forward_streamed
FAULTS: dict[str, tuple[dict[str, Callable[..., Any]], set[str]]] = {
    "swapped": (
        {"is_high": lambda self, level: self.noise.timestep(level) < LIMIT},
        {"experts-boundary", "experts-in-range"},
    ),
    "above, not from the boundary on": (
        {"is_high": lambda self, level: self.noise.timestep(level) > LIMIT},
        {"experts-boundary"},
    ),
    "one at every level": (
        {"is_high": lambda self, level: torch.ones_like(level, dtype=torch.bool)},
        {"experts-boundary", "experts-in-range"},
    ),
    "the boundary of levels, not of timesteps": (
        {"is_high": lambda self, level: level >= 0.5},
        {"experts-boundary", "experts-in-range"},
    ),
    "the history in one state only": ({"forward_streamed": shows_the_history_to_one}, {"experts-stream"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    methods, expected = FAULTS[name]
    for method, changed in methods.items():
        monkeypatch.setattr(ExpertsWorld, method, changed)
    claims = measured(tiny_experts().double())
    assert expected <= {claim.id for claim in claims.values() if not claim.ok}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base with two denoisers, and what it is converted into."""
    folder = tmp_path_factory.mktemp("pair")
    base = write_pair(folder / "base", dtype=torch.bfloat16)
    return base, convert_pair(base, folder / "out")


@pytest.mark.slow
def test_every_claim_is_measured_of_both(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, out = pair
    report = verify(out, base, report=tmp_path / "report")
    assert report.ok, [claim.sentence for claim in report.claims if not claim.ok]
    ids = {expert: {c.id for c in report.claims if c.expert == expert} for expert in ("high", "low", "")}
    assert ids["high"] == ids["low"] >= {"causal", "stream-by-block", "identity", "tensors-kept"}
    assert ids[""] == {
        "experts-boundary",
        "experts-in-range",
        "experts-stream",
        "rollout-equal",
        "rollout-history",
        "rollout-guidance",
        "rollout-branch",
        "files-match-manifest",
        "copies-equal-base",
        "stored-nulls",
        "edits",
        "autoencoder-encode",
        "autoencoder-decode",
    }
    page = (tmp_path / "report" / "report.html").read_text()
    for expert in ("high", "low"):
        assert f"({expert}-noise expert)" in page
        assert f"influence-{expert}" in page
    assert (tmp_path / "report" / "low-noise-influence.png").exists()
    assert check_schema(report)
    summary = (tmp_path / "report" / "summary.md").read_text()
    assert summary.count("(low-noise expert)") == summary.count("(high-noise expert)") > 3


def check_schema(report: VerifyReport) -> bool:
    import json

    import jsonschema

    jsonschema.validate(report.as_json(), json.loads(Path("docs/schemas/verify.schema.json").read_text()))
    return True

"""`v2w verify`, and `v2w convert --verify`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import printed, refused
from tests.conftest import ACTIONS
from tests.mutations import faults
from v2w_convert.cli import run
from v2w_convert.verification.engine import phases
from v2w_convert.verification.engine.models import open_world
from v2w_convert.world.model import World

CONV = "up_blocks.1.resnets.0.temporal_res_block.conv2"
ATTENTION = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"


@pytest.mark.slow
@pytest.mark.parametrize(("site", "fault"), [(ATTENTION, faults.sees_future), (CONV, faults.forgets_past)])
def test_verify_names_one_broken_site(
    tiny_base: Path,
    tiny_converted: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    site: str,
    fault: Callable[[Any], None],
) -> None:
    def opened(*arguments: Any, **options: Any) -> World:
        world = open_world(*arguments, **options)
        fault(world.base.get_submodule(site))
        return world

    monkeypatch.setattr(phases, "open_world", opened)
    assert run(["verify", str(tiny_converted), "--base", str(tiny_base), "--json"]) == 1
    out, err = capsys.readouterr()
    failed = [claim for claim in json.loads(out.splitlines()[-1])["claims"] if not claim["ok"]]
    assert failed
    assert any(claim["where"] == site for claim in failed)
    assert site in err
    rule = "check its rule in the plan: - causal_"
    assert any(claim["fix"].startswith(rule) for claim in failed)
    assert rule in err


@pytest.mark.slow
def test_verify_passes_what_is_whole(tiny_base: Path, tiny_converted: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert run(["verify", str(tiny_converted), "--base", str(tiny_base), "-o", str(report)]) == 0
    names = {file.name for file in report.iterdir()}
    assert {"influence.png", "report.html", "report.json", "summary.md", "config.yaml"} <= names


@pytest.mark.slow
def test_convert_and_verify_at_once(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = [str(a) for a in ["convert", tiny_base, "-o", out, "--action-dim", ACTIONS]]
    assert "--dry-run" in refused(capsys, *arguments, "--verify", "--dry-run")
    assert not out.exists()
    assert run(arguments) == 0
    card = out / "README.md"
    assert "Not verified yet" in card.read_text()
    hashes = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p != card}

    result = printed(capsys, *arguments, "--verify")
    assert result["already_converted"]
    assert result["verify"]["ok"]
    assert "Not verified yet" not in card.read_text()
    held = f"**All {sum(c['allowed'] is not None for c in result['verify']['claims'])} claims"
    assert held in card.read_text()
    assert hashes == {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p != card}

    def opened(*given: Any, **options: Any) -> Any:
        world = open_world(*given, **options)
        faults.forgets_past(world.base.get_submodule(CONV))
        return world

    monkeypatch.setattr(phases, "open_world", opened)
    result = printed(capsys, *arguments, "--verify", code=1)
    assert not result["ok"]
    assert not result["verify"]["ok"]
    assert held not in card.read_text()
    assert f"at `{CONV}`" in card.read_text()
    assert hashes == {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p != card}

    card.write_bytes(b"\xff")
    assert "README.md" in refused(capsys, "verify", out, "--base", tiny_base, "--card")

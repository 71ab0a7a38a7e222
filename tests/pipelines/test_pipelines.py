"""Converted models beside their families' own pipelines."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.pipelines.compared import TOLERANCE, compare
from tests.pipelines.releases import RELEASES
from tests.pipelines.table import FILE, as_json, measured, text
from tests.tiers import slow_except
from tests.tiny import tiny_model
from v2w_convert.cli import run as cli
from v2w_convert.families import IMAGE_CONDITIONS
from v2w_convert.plan.read import shipped_plans

FAST = (
    "Wan 2.1 I2V 14B",
    "Wan 2.2 T2V A14B",
    "CogVideoX 2b",
    "Mochi 1 preview",
    "LTX-Video 0.9.0",
    "Cosmos 1.0 7B Video2World",
    "HunyuanVideo",
)
COMPARED = [name for name, release in RELEASES.items() if release.not_compared is None]
REASON = {
    "cosmos": "it is Cosmos Predict2 or 2.5",
    "hunyuan-video": "image_condition_type is 'token_replace'",
    "hunyuan-video-15": "it was distilled to jump between two noise levels",
    "kandinsky-5": "sparse attention chooses by content",
    "skyreels-v2": "it takes a last picture",
    "wan": "it takes a last picture",
    "ltx-video": "its pipeline is LTXConditionPipeline",
}
REFUSED = [name for name, release in RELEASES.items() if "refuses" in (release.not_compared or "")]
IMPORTED = {"vid2world", "vid2world-repaired"}  # trained world models, no pipeline's


@pytest.mark.parametrize("name", slow_except(FAST, COMPARED))
def test_a_converted_model_is_told_given_and_stepped_as_its_pipeline_does(name: str) -> None:
    release = RELEASES[name]
    figures = compare(release)
    assert figures.told == 0
    assert max(figures.by_argument.values()) <= 1e-6, figures.by_argument
    assert figures.output <= TOLERANCE
    assert (figures.next_latents is None) == (release.next_not_compared is not None)
    assert (figures.next_latents or 0) <= TOLERANCE
    committed, found = measured()[name], as_json(figures)
    assert committed.keys() == found.keys()
    assert committed["arguments"].keys() == found["arguments"].keys()


def test_the_committed_table_is_of_these_releases() -> None:
    assert list(measured()) == list(RELEASES), "run python -m tests.pipelines.table"
    assert FILE.read_text("utf-8") == text(measured()), "run python -m tests.pipelines.table --text"


def test_every_plan_has_a_release() -> None:
    assert {release.plan for release in RELEASES.values()} == set(shipped_plans()) - IMPORTED


@pytest.mark.parametrize(
    ("name", "believed", "wrong"),
    [
        ("Wan 2.1 T2V 14B", {"flow_shift": 1.0}, "told"),
        ("HunyuanVideo", {"shift": 1.0}, "told"),
        ("LTX-Video 0.9.0", {"shift_terminal": None}, "told"),
        ("Mochi 1 preview", {"invert_sigmas": False}, "told"),
        ("CogVideoX 2b", {"snr_shift_scale": 1.0}, "next_latents"),
        ("CogVideoX 5b", {"rescale_betas_zero_snr": False}, "next_latents"),
        ("Cosmos 1.0 7B Text2World", {"rho": 3.0}, "told"),
        ("SANA-Video 2B 480p", {"solver_order": 1}, "next_latents"),
    ],
)
def test_a_wrong_scheduler_is_seen(name: str, believed: dict[str, Any], wrong: str) -> None:
    assert getattr(compare(RELEASES[name], believed), wrong) > 1e-3


def test_a_wrong_picture_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = IMAGE_CONDITIONS["wan"]

    def mask_missing(*given: Any) -> dict[str, Tensor]:
        return {
            name: value * (torch.arange(value.shape[1]) > 3)[:, None, None]
            for name, value in right(*given).items()
        }

    monkeypatch.setitem(IMAGE_CONDITIONS, "wan", mask_missing)
    figures = compare(RELEASES["Wan 2.1 I2V 14B"])
    assert figures.by_argument["hidden_states"] > 1e-2
    assert figures.output > 1e-3


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_by_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = RELEASES[name]
    base, out = tmp_path / "base", tmp_path / "out"
    model = tiny_model(release.plan, release.tiny)
    model.save_pretrained(base / "transformer")
    (base / "scheduler").mkdir()
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(release.scheduler))
    entries = {"transformer": ["diffusers", type(model).__name__]}
    (base / "model_index.json").write_text(json.dumps(release.index | entries))

    assert cli(["convert", str(base), "-o", str(out), "--action-dim", "3"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert REASON[release.plan] in said
    assert not out.exists()

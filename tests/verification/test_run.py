"""Every kind of fault, through `verify`: the claim that must catch it does, and names the place."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.mutations import faults
from v2w_convert.errors import V2WError
from v2w_convert.progress import ProgressEvent
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims import SPECS
from v2w_convert.verification.engine import phases
from v2w_convert.verification.run import verify
from v2w_convert.world.model import World

CONV = "down_blocks.1.resnets.0.temporal_res_block.conv2"
NORM = "mid_block.resnets.1.temporal_res_block.norm1"
ATTENTION = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"
POSITION = "up_blocks.1.attentions.0.time_proj"
LAST_ACTION_LAYER = "time_embedding.v2w_action.last.weight"
SWAPPED = (
    "mid_block.resnets.0.spatial_res_block.norm1.weight",
    "mid_block.resnets.1.spatial_res_block.norm1.weight",
)

FUTURE = "Frame t sees nothing of the frames after it, in"
PAST = SPECS["sites-receptive-field"].sentence
BY_SITE = SPECS["sites-causal"].sentence
STREAMED = "Streaming frame by frame gives the same output as one pass over the whole clip"

SENTENCES = {id: spec.sentence for id, spec in SPECS.items()}

TENSORS = ("tensors-kept", "tensors-transferred", "tensors-added", "transfer-rounding")

Failing = Callable[..., dict[str, Claim]]
Rewritten = Callable[..., Path]


def test_an_unbroken_model_passes_and_is_reported(
    tiny_converted: Path, tiny_base: Path, tmp_path: Path
) -> None:
    events: list[ProgressEvent] = []
    folder = tmp_path / "new" / "report"
    report = verify(tiny_converted, tiny_base, report=folder, progress=events.append)
    assert [claim for claim in report.claims if not claim.ok or claim.measured is None] == []
    assert report.ok
    assert [event.done for event in events] == list(range(len(events)))
    assert {event.total for event in events} == {len(events) - 1}
    left = [event.seconds_left for event in events if event.seconds_left is not None]
    assert left[0] > 0 and left == sorted(left, reverse=True) and left[-1] == 0
    assert json.loads((folder / "report.json").read_text()) == report.as_json()
    for name in ("influence.png", "distance.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 600
    assert len(report.figures["distance"]["frames"]) == 4
    assert report.figures["autoencoder"]["class"] == "AutoencoderKL"
    one_denoiser = {spec.id for spec in SPECS.values() if spec.topic != "experts"}
    # No prompt was encoded, and nothing is finetuned.
    one_denoiser -= {"stored-prompt", "actions-scaled-as-data", "weights-distance"}
    assert {claim.id for claim in report.claims} == one_denoiser
    assert all(claim.fix == "" for claim in report.claims)


@pytest.mark.slow
def test_without_the_base_what_needs_it_is_listed_but_not_measured(tiny_converted: Path) -> None:
    report = verify(tiny_converted)
    assert report.ok
    skipped = [claim for claim in report.claims if claim.measured is None]
    needed = {
        "base-files-match-manifest",
        "config-equals-base",
        "control-base-leaks-future",
        "identity",
        "invariants",
        *TENSORS,
    }
    assert needed < {claim.id for claim in skipped}
    assert all("--base" in claim.how for claim in skipped)
    (family,) = (claim for claim in report.claims if claim.id == "coverage")
    assert family.measured == 0 and "the family's frames" in family.sentence


@pytest.mark.slow
def test_a_finetuned_model_passes(finetuned: Path, tiny_base: Path) -> None:
    report = verify(finetuned, tiny_base)
    assert [claim for claim in report.claims if not claim.ok] == []
    by_name = {claim.id: claim for claim in report.claims}
    assert by_name["action-has-effect"].how.endswith("real weights")
    for name in ("actions-no-effect-before-training", "invariants", *TENSORS):
        assert by_name[name].measured is None


@pytest.mark.slow
def test_sites_that_see_the_future(failing: Failing) -> None:
    found = failing(*((site, faults.sees_future) for site in (CONV, ATTENTION, NORM)))
    assert set(found[BY_SITE].where.split(", ")) == {CONV, ATTENTION, NORM}
    # End to end the first of them hides the rest; test_causality breaks them one by one.
    assert found[f"{FUTURE} float64"].where == found[f"{FUTURE} float16"].where == CONV


@pytest.mark.slow
def test_sites_that_forget_and_positions_that_are_wrong(failing: Failing) -> None:
    forgetful = ((site, faults.forgets_past) for site in (CONV, ATTENTION))
    found = failing(*forgetful, (POSITION, faults.position_one_too_large_in_streams))
    assert set(found[PAST].where.split(", ")) == {CONV, ATTENTION}
    assert found[STREAMED].where == POSITION


@pytest.mark.slow
def test_a_stream_state_that_is_never_updated(failing: Failing) -> None:
    found = failing((ATTENTION, faults.state_never_updated))
    assert found[STREAMED].where == ATTENTION
    lost = ("stream-modes", "rollout-equal", "rollout-history", "rollout-guidance", "rollout-branch")
    assert {*found} == {
        STREAMED,
        STREAMED.replace("frame by frame", "in chunks of mixed sizes"),
        *(SPECS[name].sentence for name in lost),
    }


@pytest.mark.slow
def test_tensors_that_surgery_would_not_write(failing: Failing, rewritten: Rewritten) -> None:
    def spoil(found: dict[str, Tensor]) -> None:
        if LAST_ACTION_LAYER in found:
            found[LAST_ACTION_LAYER][0, 0] = 1.0
        else:
            found["conv_in.bias"].view(torch.int16)[3] += 1  # one unit in the last place
            a, b = (found[f"{CONV.replace('conv2', conv)}.weight"] for conv in ("conv1", "conv2"))
            found[f"{CONV}.weight"], found[f"{CONV.replace('conv2', 'conv1')}.weight"] = a.clone(), b.clone()

    found = failing(folder=rewritten(spoil))
    assert found[SENTENCES["tensors-kept"]].where == "conv_in.bias"
    swapped = {f"{CONV}.weight", f"{CONV.replace('conv2', 'conv1')}.weight"}
    assert set(found[SENTENCES["tensors-transferred"]].where.split(", ")) == swapped
    assert found[SENTENCES["tensors-added"]].where == LAST_ACTION_LAYER
    assert found[SENTENCES["actions-no-effect-before-training"]].where == "time_embedding"
    assert (
        found["action: before training, output with any action equals the base's"].where == "time_embedding"
    )
    kept = found["causal_conv: equals the base without its future taps"].where
    assert set(kept.split(", ")) == {CONV, CONV.replace("conv2", "conv1")}


@pytest.mark.slow
def test_a_rule_that_is_missing_in_the_plan(
    failing: Failing, rewritten: Rewritten, tiny_converted: Path
) -> None:
    plan = read_manifest(tiny_converted).plan
    rest = [entry for entry in plan["operations"] if "frame_norm" not in entry]
    missing = failing(folder=rewritten(plan=plan | {"operations": rest}))[SENTENCES["coverage"]]
    assert missing.measured == 16
    assert '- frame_norm: {at: "' in missing.fix
    assert NORM in missing.where.split(", ")


@pytest.mark.slow
def test_identity_is_lost_with_the_positions(
    failing: Failing, rewritten: Rewritten, tiny_converted: Path
) -> None:
    """Positions do not mix frames, so no probe misses them."""
    plan = read_manifest(tiny_converted).plan
    rest = [entry for entry in plan["operations"] if "frame_position" not in entry]
    found = failing(folder=rewritten(plan=plan | {"operations": rest}))
    assert {*found} == {SENTENCES["identity"]}
    assert found[SENTENCES["identity"]].where == "down_blocks.0.attentions.0.time_proj"


def test_with_a_missing_tensor_only_files_are_checked(
    rewritten: Rewritten, tiny_base: Path, tmp_path: Path
) -> None:
    def lose(found: dict[str, Tensor]) -> None:
        found.pop(LAST_ACTION_LAYER, None)

    folder = rewritten(lose)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    record = json.loads(index.read_text())
    del record["weight_map"][LAST_ACTION_LAYER]
    index.write_text(json.dumps(record))
    report = verify(folder, tiny_base, report=tmp_path / "report")
    broken = [claim.where for claim in report.claims if not claim.ok]
    assert broken == [LAST_ACTION_LAYER, str(index.relative_to(folder))]
    assert len(report.claims) < 10
    assert not json.loads((tmp_path / "report" / "report.json").read_text())["ok"]


def test_a_converted_model_is_refused_as_a_base(tiny_converted: Path) -> None:
    with pytest.raises(V2WError, match="a converted model"):
        verify(tiny_converted, tiny_converted)


def test_a_report_that_cannot_be_written_is_refused_at_once(tiny_converted: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(V2WError, match="write a report"):
        verify(tiny_converted, report=tmp_path / "file")


@pytest.mark.slow
def test_a_dtype_that_this_machine_cannot_run_is_replaced_and_named(
    randomized: World, tiny_converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_halves(self: World, *args: object, **kwargs: object) -> Tensor:
        if self.dtype == torch.float16:
            raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")
        return forward(self, *args, **kwargs)

    forward = World.forward
    assert phases.can_run(randomized)
    monkeypatch.setattr(World, "forward", no_halves)
    stored = next(c for c in verify(tiny_converted).claims if c.id == "causal-stored")
    assert stored.ok and stored.sentence.endswith("in float32")
    assert "this machine cannot run float16, the stored precision" in stored.how


@pytest.mark.slow
def test_a_model_that_cannot_be_run_fails_its_claims(failing: Failing) -> None:
    """It is the model's fault and not the user's: exit 1, and the other claims are measured."""

    def breaks(site: Any) -> None:
        def keep(self: Any, state: Any) -> None:
            if self.context.commit:
                raise KeyError("a name")

        site.__class__ = type("Broken", (type(site),), {"keep": keep})

    found = failing((ATTENTION, breaks))
    names = {claim.id for claim in found.values()}
    assert {"stream-by-block", "stream-in-chunks", "deterministic"} <= names
    assert not {"causal", "receptive-field", "identity", "coverage"} & names
    assert all(claim.measured == math.inf and "KeyError" in claim.how for claim in found.values())

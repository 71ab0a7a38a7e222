"""What was edited by hand is named, or fails; what is a user's right does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.cli.commands import printed
from tests.encoders.pipelines import PROMPTED
from tests.mutations import folders
from tests.mutations.edited import condition, plan, scheduler, window
from tests.mutations.folders import Edit, beside, copied
from v2w_convert.checkpoint.open import open_source
from v2w_convert.surgery.load import open_converted
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims.edits import (
    changed_copies,
    measure_copies,
    measure_edits,
    measure_nulls,
    measure_prompt,
)

LTX = next(family for family in PROMPTED if family.plan == "ltx-video")
ATTENTION = "causal_attention at **.temporal_transformer_blocks.*.attn1"


def measured(folder: Path, base: Path) -> dict[str, Claim]:
    """All claims of the module, by id."""
    manifest, _, resolved = open_converted(folder)
    origin = open_source(base)
    changed, _ = changed_copies(origin, folder, manifest)
    claims = (
        measure_edits(resolved, manifest, origin.scheduler, changed),
        measure_nulls(folder, resolved, manifest),
        measure_prompt(folder, resolved, manifest, origin),
        measure_copies(origin, folder, manifest),
    )
    return {claim.id: claim for claim in claims}


@pytest.fixture
def edited(tiny_converted: Path, tiny_base: Path, tmp_path: Path) -> Callable[[Edit], dict[str, Claim]]:
    """The claims about a copy of the tiny model that was edited."""
    return lambda edit: measured(copied(tiny_converted, tmp_path / "edited", edit), tiny_base)


Edited = Callable[[Edit], dict[str, Claim]]


def test_nothing_was_edited(tiny_converted: Path, tiny_base: Path) -> None:
    found = measured(tiny_converted, tiny_base)
    assert {name: (claim.status, claim.where) for name, claim in found.items()} == {
        "edits": ("figure", ""),
        "stored-nulls": ("holds", ""),
        "stored-prompt": ("not measured", ""),
        "copies-equal-base": ("holds", ""),
    }
    assert found["edits"].measured == 0


@pytest.mark.parametrize(
    ("edit", "field", "told"),
    [
        (window(2), f"{ATTENTION}.window", f"{ATTENTION}.window 5 → 2"),
        (scheduler(steps_offset=7), "noise.scheduler.steps_offset", "noise.scheduler.steps_offset"),
        (plan(repairs="wan"), "repairs", 'repairs null → "wan"'),
        (plan(name="mine"), "plan", "mine is not a shipped one"),
        (
            folders.planned(lambda rules: rules[1:]),
            None,
            'causal_conv at **.temporal_res_block.conv[12].transfer "masked" → none',
        ),
        (beside("vae/config.json", scaling_factor=9.0), "vae/config.json", "vae/config.json not the base's"),
        (folders.replaced("conditions", "text", "file"), "conditions: text", "text given by a file"),
    ],
)
def test_an_edit_is_named_and_told(edited: Edited, edit: Edit, field: str | None, told: str) -> None:
    claim = edited(edit)["edits"]
    assert claim.status == "figure"
    assert told in claim.how and told in claim.sentence
    if field is not None:
        assert (claim.measured, claim.where) == (1.0, field)


def test_the_command_names_a_window_of_the_users_own_and_all_claims_hold(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    printed(capsys, "convert", tiny_base, "-o", out, "--action-dim", 3, "--window", 3)
    found = measured(out, tiny_base)
    assert found["edits"].sentence == f"Edited: {ATTENTION}.window 5 → 3"
    assert all(claim.ok for claim in found.values())


@pytest.mark.parametrize("name", ["text", "added_time_ids"])
@pytest.mark.parametrize("change", [lambda x: x + 1e-6, lambda x: x.double(), lambda x: x * torch.nan])
def test_an_altered_null_fails(edited: Edited, name: str, change: Callable[[Tensor], Tensor]) -> None:
    claim = edited(condition(name, change))["stored-nulls"]
    assert (claim.status, claim.where) == ("fails", name)


def test_a_null_that_is_missing_or_unknown_fails(edited: Edited) -> None:
    def change(found: dict[str, Tensor]) -> None:
        found["other"] = found.pop("text")

    assert edited(folders.conditions(change))["stored-nulls"].where == "other, text"


def test_conditions_of_a_manifest_that_does_not_say_where_they_are_from(
    tiny_converted: Path, tiny_base: Path, tmp_path: Path
) -> None:
    old = copied(tiny_converted, tmp_path / "old", folders.manifest(conditions=None))
    assert measured(old, tiny_base)["stored-nulls"].status == "holds"
    claim = measured(copied(old, tmp_path / "given", condition("text", lambda x: x + 1)), tiny_base)[
        "stored-nulls"
    ]
    assert (claim.status, "where text is from" in claim.how) == ("not measured", True)


@pytest.mark.slow
def test_conditions_from_a_file_are_the_users_own(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"text": torch.ones(2, 16)}, tmp_path / "given.safetensors")
    out = tmp_path / "out"
    given = ["--conditions", tmp_path / "given.safetensors"]
    printed(capsys, "convert", tiny_base, "-o", out, "--action-dim", 3, *given)
    assert read_manifest(out).conditions == {"text": "file", "added_time_ids": "null"}
    found = measured(out, tiny_base)
    assert (found["stored-nulls"].status, found["edits"].where) == ("holds", "conditions: text")


@pytest.mark.parametrize("name", ["vae/config.json", "scheduler/scheduler_config.json"])
def test_another_setting_beside_the_denoiser_fails(edited: Edited, name: str) -> None:
    claim = edited(beside(name, extra=1))["copies-equal-base"]
    assert (claim.status, claim.where) == ("fails", name)


def test_what_diffusers_notes_by_the_way_may_differ(edited: Edited) -> None:
    assert edited(beside("vae/config.json", _name_or_path="mine"))["copies-equal-base"].status == "holds"


def test_another_decoder_fails_before_finetuning_and_is_named_after_it(
    tiny_converted: Path, tiny_base: Path, tmp_path: Path
) -> None:
    name = "vae/diffusion_pytorch_model.safetensors"

    def retrained(folder: Path) -> None:
        tensors = load_file(folder / name)
        save_file({key: x + 1 for key, x in tensors.items()}, folder / name)

    folder = copied(tiny_converted, tmp_path / "decoder", retrained)
    claim = measured(folder, tiny_base)["copies-equal-base"]
    assert (claim.status, claim.where) == ("fails", name)
    folders.manifest(finetuning={"steps": 1})(folder)
    found = measured(folder, tiny_base)
    assert (found["copies-equal-base"].status, found["edits"].where) == ("holds", name)


def test_the_stored_prompt_is_encoded_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = LTX.save(tmp_path / "base"), tmp_path / "out"
    printed(capsys, "convert", base, "-o", out, "--action-dim", 3, "--prompt", "a red ball")
    assert read_manifest(out).conditions == {"text": "prompt", "text_mask": "prompt"}
    found = measured(out, base)
    assert (found["stored-prompt"].status, found["stored-prompt"].measured) == ("holds", 0.0)
    assert found["edits"].where == "prompt" and '"a red ball"' in found["edits"].sentence
    for number, (edit, where) in enumerate(
        (
            (condition("text", lambda x: x.flip(0)), "text"),
            (condition("text_mask", lambda x: 1 - x), "text_mask"),
            (folders.manifest(prompt="a blue ball"), "text"),
        )
    ):
        claim = measured(copied(out, tmp_path / str(number), edit), base)["stored-prompt"]
        assert (claim.status, where in claim.where) == ("fails", True), claim


def test_a_manifest_holds_no_other_origin(tiny_converted: Path) -> None:
    assert json.loads((tiny_converted / "v2w.json").read_text())["conditions"] == {
        "text": "null",
        "added_time_ids": "null",
    }

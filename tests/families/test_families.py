"""Every family that a plan serves: converted, verified, trained for a step; and its plan on the published size.

The long test runs two families in the fast tier; `test_causal.py` has a short one for each.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from tests.families.published import ALSO_PUBLISHED, IMAGE_TO_VIDEO, PUBLISHED, TRAINED, VIEWS, Case
from tests.families.table import FILE, figures_of, measured, row
from tests.tiers import slow_except
from tests.tiny import tiny_folded, tiny_resolved
from v2w_convert.checkpoint.open import open_source
from v2w_convert.cli import run as cli
from v2w_convert.errors import V2WError
from v2w_convert.families import REFUSED, model_class
from v2w_convert.families.build import complete_config
from v2w_convert.finetuning.finetune import finetune
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.plan.call import call_base
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.verification import run as verification
from v2w_convert.verification.claims import modes, rollout
from v2w_convert.verification.engine import inputs, manners
from v2w_convert.verification.run import verify

PLANS = sorted(shipped_plans().keys() - TRAINED)
TINY = {name: Case(name) for name in PLANS} | IMAGE_TO_VIDEO | VIEWS
FAST = {"wan", "sana-video, blocks of 2"}
SIZES = {  # claims that may depend on the clips' size
    *("identity", "causal", "causal-modes", "batch-independent", "sites-receptive-field", "sites-causal"),
    *("stream-by-block", "rollout-equal", "action-causal", "invariants"),
}
FAST_RELEASES = (
    "Wan 2.1 I2V 14B",
    "Wan 2.2 TI2V 5B",
    "SkyReels V2 DF 1.3B",
    "CogVideoX 1.5 5b I2V",
    "Cosmos 1.0 14B Text2World",
    "HunyuanVideo I2V, 33 channels",
    "DynamiCrafter 256",
)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=() if name in FAST else pytest.mark.slow)
        for name, case in TINY.items()
    ],
)
def test_a_family_converts_passes_verify_and_trains(
    case: Case,
    tiny_checkpoint: Callable[..., Path],
    tiny_conversion: Callable[..., Path],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = tiny_checkpoint(case.plan, case.overrides)
    run = tmp_path / "run"
    assert cli(["inspect", str(base), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["ok"], answer["plan"], answer["uncovered"]) == (True, case.plan, [])
    out = tiny_conversion(case.plan, case.overrides, **case.view)
    n = tiny_resolved(case.plan, case.overrides, **case.view).frames_per_block

    report = verify(out, base)
    assert report.ok, [(claim.id, claim.how) for claim in report.claims if not claim.ok]
    if case == Case(case.plan):  # the published table is current
        published, found = measured()[case.plan], figures_of(report)
        assert published["leak"] == found["leak"] == 0
        for key in ("invariants", "invariants kept"):
            assert published[key] == found[key]
        # machines round differently
        assert all(found[key] <= 10 * published[key] for key in ("identity", "streamed"))

    if case.plan == "cogvideox-i2v":
        return  # it takes latents of one size, which is not the data's
    # Of a picture, Wan's mask has four channels with its own autoencoder alone: tests/finetuning/test_conditions.py.
    picture: dict[str, Any] = {"image_condition": "stored"} if case.plan == "wan" else {}
    settings = FinetuneSettings(steps=1, batch=2, frames=-(-5 // n) * n, lr=1e-3, **picture)
    finetune(out, tiny_data, run, settings)
    before, after = open_source(out), open_source(run)
    weights = [load_file(file) for file in sorted(after.files)]
    trained = {key: value for part in weights for key, value in part.items()}
    original = {key: value for file in before.files for key, value in load_file(file).items()}
    changed = [key for key, value in original.items() if not torch.equal(value, trained[key])]
    assert len(changed) > len(original) / 2
    assert json.loads((run / "v2w.json").read_text())["stage"] == "finetuned"

    # Longer and upright, where it was shorter and wide before.
    wide = inputs.latent_size
    for module in (inputs, manners, modes, rollout):
        monkeypatch.setattr(module, "latent_size", lambda world: (3 * wide(world)[0], wide(world)[0]))
    monkeypatch.setattr(inputs, "MIN_FRAMES", 9)
    checks = [check for check in verification.CHECKS if SIZES & {spec.id for spec in check.specs}]
    monkeypatch.setattr(verification, "CHECKS", tuple(checks))
    report = verify(run, base)
    assert report.ok, [(claim.id, claim.how) for claim in report.claims if not claim.ok]


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_resolves_on_the_published_size(name: str) -> None:
    plan = read_plan(shipped_plans()[name])
    overrides, expected = PUBLISHED[name]
    with torch.device("meta"):
        model = model_class(plan.base)(**overrides)
    config = complete_config(model)
    assert plan_for(plan.base, config).name == name
    assert row(name) in FILE.read_text(encoding="utf-8").splitlines(), "run python -m tests.families.table"
    assert Counter(operation.name for operation in resolve(plan, config).sites.values()) == expected


@pytest.mark.parametrize("release", slow_except(FAST_RELEASES, ALSO_PUBLISHED))
def test_other_published_sizes_resolve(release: str) -> None:
    name, overrides, expected = ALSO_PUBLISHED[release]
    with torch.device("meta"):
        config = complete_config(model_class(read_plan(shipped_plans()[name]).base)(**overrides))
    plan = plan_for(read_plan(shipped_plans()[name]).base, config)
    assert plan.name == name
    assert Counter(operation.name for operation in resolve(plan, config).sites.values()) == expected


def test_a_plan_for_one_family_is_refused_on_another() -> None:
    wan, svd = (read_plan(shipped_plans()[name]) for name in ("wan", "stable-video-diffusion"))
    config = {"_class_name": svd.base, **svd.tiny}
    with pytest.raises(V2WError) as refused:
        resolve(wan, config)
    assert "UNetSpatioTemporalConditionModel" in refused.value.found
    assert "causal_attention at 'blocks.*.attn1' matches nothing" in refused.value.found


@pytest.mark.parametrize("class_name", sorted(REFUSED))
def test_a_class_without_a_plan_is_refused_with_the_reason(class_name: str) -> None:
    assert hasattr(diffusers, class_name)
    with pytest.raises(V2WError, match="already|sound|cache|sparse|streams|packs"):
        plan_for(class_name)


def test_a_config_that_no_plan_serves_is_refused_with_the_reason() -> None:
    with pytest.raises(V2WError, match=r"patch_size_t is 2"):
        plan_for("CogVideoXTransformer3DModel", {"patch_size_t": 2})
    with pytest.raises(V2WError, match="image_condition_type is 'token_replace'"):
        plan_for("HunyuanVideoTransformer3DModel", {"image_condition_type": "token_replace"})
    for class_name, entry, reason in (
        ("CosmosTransformer3DModel", {"extra_pos_embed_type": None}, "it is Cosmos Predict2 or 2.5"),
        ("HunyuanVideo15Transformer3DModel", {"use_meanflow": True}, "it was distilled"),
        ("Kandinsky5Transformer3DModel", {"attention_type": "nabla"}, "sparse attention"),
        ("SkyReelsV2Transformer3DModel", {"num_frame_per_block": 5}, "a mask of the base's own"),
    ):
        with pytest.raises(V2WError, match=reason):
            plan_for(class_name, entry)


@pytest.mark.parametrize("name", ["hunyuan-video", "hunyuan-video-15", "mochi"])
def test_masked_text_tokens_have_no_effect(name: str) -> None:
    """As in the base in the bidirectional form; and in the causal form other padding changes nothing."""
    world, base = tiny_folded(name)
    resolved = world.resolved
    call = resolved.call
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 3, resolved.call.channels, 4, 8, generator=generator)
    level = torch.full((2, 3), 0.5)
    given = {
        n: condition.null(4, 8, tokens=4).expand(2, *condition.shape(4, 8, 4)).clone()
        for n, condition in call.conditions.items()
    }
    given["text"] = torch.randn(given["text"].shape, generator=generator)
    given["text_mask"][:, 2:] = 0
    other = given | {"text": torch.cat([given["text"][:, :2], given["text"][:, 2:] + 5], 1)}
    with torch.no_grad():
        expected = call_base(base, call, latents, world.noise.timestep(level)[:, 0], given)
        found = world(latents, level, bidirectional=True, **given)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * float(expected.abs().max()))
        assert torch.equal(world(latents, level, **given), world(latents, level, **other))
        unmasked = other | {"text_mask": torch.ones_like(given["text_mask"])}
        assert not torch.allclose(
            world(latents, level, **given), world(latents, level, **unmasked), atol=1e-3
        )

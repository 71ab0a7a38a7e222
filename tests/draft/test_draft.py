"""`v2w plan` for a class without a plan. Shipped plans are hidden: a draft must not use them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.families.published import PUBLISHED
from v2w_convert.cli import run
from v2w_convert.draft import attention
from v2w_convert.draft.draft import draft
from v2w_convert.draft.plan_text import plan_text
from v2w_convert.draft.rotary_fit import RotaryFitError
from v2w_convert.errors import V2WError
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.plan import registry
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import parse_plan, read_plan, shipped_plans
from v2w_convert.plan.registry import is_known
from v2w_convert.plan.resolve import resolve

PLANS = {name: read_plan(file) for name, file in shipped_plans().items()}
WAN, HUNYUAN = PLANS["wan"].tiny, PLANS["hunyuan-video"].tiny

# What no plan is shipped for.
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "wan-vace": ("WanVACETransformer3DModel", WAN | {"vace_layers": [0], "vace_in_channels": 6}),
    "chrono-edit": ("ChronoEditTransformer3DModel", WAN),
    "consis-id": ("ConsisIDTransformer3DModel", PLANS["cogvideox"].tiny),
    "motif-video": (
        "MotifVideoTransformer3DModel",
        {
            "in_channels": 9,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "num_layers": 2,
            "num_single_layers": 2,
            "text_embed_dim": 16,
            "rope_axes_dim": [4, 4, 4],
        },
    ),
}
KNOWN = {
    name: (PLANS[name].base, PLANS[name].tiny)
    for name in ("cogvideox-2b", "kandinsky-5", "latte", "ltx-video", "mochi", "sana-video")
}
OTHERS = (
    "allegro",
    "animatediff",
    "cogvideox",
    "cosmos",
    "easyanimate",
    "hunyuan-video",
    "hunyuan-video-15",
    "skyreels-v2",
    "stable-video-diffusion",
    "unet-3d",
    "wan",
)


@pytest.fixture(autouse=True)
def hidden_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "shipped_plans", dict)


def saved(class_name: str, tiny: dict[str, Any], folder: Path) -> Path:
    torch.manual_seed(0)
    model: Any = build_model(class_name, tiny).eval()
    randomize_zero_init(model)
    model.save_pretrained(folder)
    return folder


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return printed


def test_there_is_no_plan_for_what_is_drafted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not any(is_known(class_name) for class_name, _ in OWN.values())
    assert all(is_known(class_name) for class_name, _ in KNOWN.values())


def tiers(cases: dict[str, tuple[Any, ...]], fast: set[str]) -> list[Any]:
    """Parameter sets named by the keys; all but those of `fast` are slow."""
    assert fast < cases.keys()
    return [
        pytest.param(*case, id=name, marks=() if name in fast else pytest.mark.slow)
        for name, case in cases.items()
    ]


# What only a family's pipeline knows, and the model itself does not ask for: verify says that it is missing.
NOT_DRAFTED = {"LTXVideoTransformer3DModel": {"pipeline-arguments": "rope_interpolation_scale"}}


@pytest.mark.parametrize(("class_name", "tiny"), tiers(OWN | KNOWN, {"wan-vace"}))
def test_a_draft_converts_and_is_proven_without_an_edit(
    class_name: str, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, plan, out = saved(class_name, tiny, tmp_path / "base"), tmp_path / "plan.yaml", tmp_path / "out"
    assert run(["plan", str(base), "-o", str(plan), "--json"]) == 0
    result = last(capsys)
    assert result["drafted"]
    assert result["holds"]
    assert result["identity_gap"] <= 1e-9
    assert run(["convert", str(base), "-o", str(out), "--plan", str(plan), "--action-dim", "3"]) == 0
    run(["verify", str(out), "--base", str(base), "--json"])
    failed = {claim["id"]: claim["where"] for claim in last(capsys)["claims"] if not claim["ok"]}
    assert failed == NOT_DRAFTED.get(class_name, {})


@pytest.mark.parametrize("name", tiers({name: (name,) for name in OTHERS}, {"allegro"}))
def test_a_draft_finds_the_sites_that_the_shipped_plan_names(name: str) -> None:
    base, tiny = PLANS[name].base, PLANS[name].tiny
    found = draft(base, tiny)
    assert found.holds, found.where
    drafted, expected = (resolve(plan, tiny) for plan in (parse_plan(found.plan, "test"), PLANS[name]))
    operations = {path: operation.name for path, operation in expected.sites.items()}
    assert {path: operation.name for path, operation in drafted.sites.items()} == operations


@pytest.mark.slow
def test_a_draft_names_the_site_that_it_has_no_operation_for() -> None:
    """I2VGen-XL shows the first frame's picture to every frame: operation `first_frame`, which no draft proposes."""
    found = draft(PLANS["i2vgen-xl"].base, PLANS["i2vgen-xl"].tiny)
    assert not found.holds
    assert found.where == "image_latents_context_embedding.0"
    drafted = resolve(parse_plan(found.plan, "test"), PLANS["i2vgen-xl"].tiny).sites
    expected = resolve(PLANS["i2vgen-xl"], PLANS["i2vgen-xl"].tiny).sites
    missing = {path: operation.name for path, operation in expected.items() if path not in drafted}
    assert missing == {"image_latents_context_embedding": "first_frame"}


@pytest.mark.parametrize(
    "name", tiers({name: (name,) for name in ("wan", "hunyuan-video", "ltx-video")}, {"wan"})
)
def test_a_draft_is_made_from_a_published_size(name: str) -> None:
    overrides, expected = PUBLISHED[name]
    with torch.device("meta"):
        config = complete_config(build_model(PLANS[name].base, overrides))
    found = draft(PLANS[name].base, config)
    assert found.holds, found.where
    assert Counter(found.counts) == expected


def test_conditions_of_an_image_are_found() -> None:
    found = draft(
        "WanTransformer3DModel", WAN | {"in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 24}
    )
    assert found.holds
    assert found.plan["call"]["conditions"]["image_embeds"]["shape"] == ["m", "image_dim"]
    assert found.plan["call"]["conditions"]["image_latents"]["shape"] == [
        "in_channels - out_channels",
        "h",
        "w",
    ]


def test_the_checkpoints_scheduler_says_what_the_noise_is() -> None:
    found = draft(
        "WanTransformer3DModel", WAN, {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
    )
    assert found.plan["noise"] == {"kind": "ddpm", "prediction": "v"}
    assert "noise" not in found.open
    assert "noise" in draft("WanTransformer3DModel", WAN).open


def test_what_is_not_the_base_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first frame receives another noise level: no operation describes that."""
    tiny = HUNYUAN | {"image_condition_type": "token_replace"}
    base, plan = saved("HunyuanVideoTransformer3DModel", tiny, tmp_path / "base"), tmp_path / "plan.yaml"
    assert run(["plan", str(base), "-o", str(plan), "--json"]) == 0
    result = last(capsys)
    assert not result["holds"]
    assert result["identity_gap"] > 1e-3
    assert "open: the folded model differs from the base" in plan.read_text()
    assert "transformer_blocks.0.norm1" in plan.read_text()


def test_what_could_not_be_measured_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RotaryFitError("by no law")

    monkeypatch.setattr(attention, "fit_rotary", fails)
    found = draft("WanTransformer3DModel", WAN)
    assert not found.holds
    file = tmp_path / "plan.yaml"
    file.write_text(plan_text(found))
    assert (
        "# open: its queries are rotated by the frame's position, in an unknown way: by no law"
        in file.read_text()
    )
    assert read_plan(file) == parse_plan(found.plan, "test")


def test_a_model_of_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = {
        "block_out_channels": [32, 64],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "cross_attention_dim": 8,
    }
    base, plan = saved("UNet2DConditionModel", tiny, tmp_path / "base"), tmp_path / "plan.yaml"
    assert run(["plan", str(base), "-o", str(plan), "--json"]) == 2
    out, err = capsys.readouterr()
    assert "model that denoises video" in json.loads(out)["error"]["try"]
    assert err.startswith(
        "v2w: draft a plan for UNet2DConditionModel: call a UNet2DConditionModel with a clip: "
    )
    assert err.count("\n") == 1
    assert not plan.exists()


def test_a_class_that_cannot_be_served_keeps_its_reason() -> None:
    with pytest.raises(V2WError, match="causal already"):
        draft("AnyFlowFARTransformer3DModel", {})


def test_a_config_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(V2WError, match="cannot be built"):
        draft("WanTransformer3DModel", {"num_layers": "many"})
    with pytest.raises(V2WError, match="diffusers has no model"):
        draft("DiffusionPipeline", {})

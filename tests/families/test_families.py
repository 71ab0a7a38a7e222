"""Every family that a plan serves: converted, proven, trained for a step; and its plan on the published size."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from v2w_convert.checkpoint.source import open_source
from v2w_convert.errors import V2WError
from v2w_convert.families import REFUSED
from v2w_convert.finetune.finetune import finetune
from v2w_convert.finetune.settings import Settings
from v2w_convert.plan.probe import wake
from v2w_convert.plan.read import read_plan, shipped
from v2w_convert.plan.resolve import build, complete, plan_for, require_coverage, resolve
from v2w_convert.surgery.convert import convert
from v2w_convert.verify.run import verify

PLANS = sorted(shipped())
ACTIONS = 3

# What differs from the class's defaults in a published checkpoint, and the sites that the plan finds there.
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "allegro": ({}, {"causal_attention": 32, "action": 1}),
    "animatediff": (
        {"use_motion_mid_block": True},
        {"frame_norm": 21, "frame_position": 21, "causal_attention": 42, "action": 1},
    ),
    "cogvideox": (
        {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
        {"causal_attention": 42, "action": 1},
    ),
    "cogvideox-2b": ({}, {"causal_attention": 30, "frame_position": 1, "action": 1}),
    "cosmos": ({}, {"causal_attention": 28, "frame_position": 1, "action": 1}),
    "easyanimate": (
        {
            "num_attention_heads": 48,
            "attention_head_dim": 64,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "num_layers": 48,
            "mmdit_layers": 48,
            "text_embed_dim": 3584,
        },
        {"causal_attention": 48, "action": 1},
    ),
    "hunyuan-video": ({}, {"causal_attention": 60, "action": 1}),
    "hunyuan-video-15": ({}, {"causal_attention": 54, "action": 1}),
    "i2vgen-xl": ({}, {"causal_conv": 88, "frame_norm": 105, "causal_attention": 35, "action": 1}),
    "kandinsky-5": ({}, {"causal_attention": 32, "action": 1}),
    "latte": (
        {
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 28,
            "cross_attention_dim": 1152,
            "attention_bias": True,
            "sample_size": 64,
            "patch_size": 2,
            "activation_fn": "gelu-approximate",
            "num_embeds_ada_norm": 1000,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "norm_eps": 1e-6,
            "caption_channels": 4096,
            "video_length": 16,
        },
        {"causal_attention": 28, "frame_position": 1, "action": 1},
    ),
    "ltx-video": ({}, {"causal_attention": 28, "action": 1}),
    "mochi": ({}, {"causal_attention": 48, "action": 1}),
    "sana-video": ({}, {"linear_attention": 20, "causal_conv": 20, "action": 1}),
    "skyreels-v2": ({}, {"causal_attention": 32, "action": 1}),
    "stable-video-diffusion": (
        {},
        {"causal_conv": 44, "frame_norm": 44, "causal_attention": 16, "frame_position": 16, "action": 1},
    ),
    "unet-3d": ({}, {"causal_conv": 88, "frame_norm": 105, "causal_attention": 34, "action": 1}),
    "wan": ({}, {"causal_attention": 40, "action": 1}),
}


def tiny(name: str, folder: Path, tiny_base: Path) -> Path:
    """A pipeline folder: the plan's tiny model, woken, and `tiny_base`'s autoencoder."""
    plan = read_plan(shipped()[name])
    torch.manual_seed(0)
    model = build(plan.base, plan.tiny).eval()
    wake(model)
    component = "unet" if "UNet" in plan.base else "transformer"
    model.save_pretrained(folder / component)
    shutil.copytree(tiny_base / "vae", folder / "vae")
    (folder / "model_index.json").write_text("{}\n")
    return folder


@pytest.mark.parametrize("name", PLANS)
def test_a_family_converts_is_proven_and_trains(
    name: str, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    base, out, run = tiny(name, tmp_path / "base", tiny_base), tmp_path / "out", tmp_path / "run"
    source = open_source(base)
    plan = plan_for(source.class_name, source.config)
    assert plan.name == name
    require_coverage(plan)
    convert(source, resolve(plan, source.config, source.scheduler), out, action_dim=ACTIONS)

    report = verify(out, base)
    assert report.ok, [claim for claim in report.claims if not claim.ok]

    finetune(out, tiny_data, run, Settings(steps=1, batch=2, frames=5, lr=1e-3))
    before, after = open_source(out), open_source(run)
    weights = [load_file(file) for file in sorted(after.files)]
    trained = {key: value for part in weights for key, value in part.items()}
    original = {key: value for file in before.files for key, value in load_file(file).items()}
    changed = [key for key, value in original.items() if not torch.equal(value, trained[key])]
    assert len(changed) > len(original) / 2
    assert json.loads((run / "v2w.json").read_text())["stage"] == "finetuned"
    report = verify(run, base)
    assert report.ok, [claim for claim in report.claims if not claim.ok]


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_resolves_on_the_published_size(name: str) -> None:
    plan = read_plan(shipped()[name])
    overrides, expected = PUBLISHED[name]
    with torch.device("meta"):
        model = getattr(diffusers, plan.base)(**overrides)
    config = complete(model)
    assert plan_for(plan.base, config).name == name
    assert Counter(operation.name for operation in resolve(plan, config).sites.values()) == expected


def test_a_plan_for_one_family_is_refused_on_another() -> None:
    wan, svd = (read_plan(shipped()[name]) for name in ("wan", "stable-video-diffusion"))
    config = {"_class_name": svd.base, **svd.tiny}
    with pytest.raises(V2WError) as refused:
        resolve(wan, config)
    assert "UNetSpatioTemporalConditionModel" in refused.value.found
    assert "causal_attention at 'blocks.*.attn1' matches nothing" in refused.value.found


@pytest.mark.parametrize("class_name", sorted(REFUSED))
def test_what_cannot_be_served_is_refused_with_the_reason(class_name: str) -> None:
    assert hasattr(diffusers, class_name)
    with pytest.raises(V2WError, match="already|sound|cache|sparse|streams|packs"):
        plan_for(class_name)


def test_a_config_that_no_plan_serves_is_refused_with_the_reason() -> None:
    with pytest.raises(V2WError, match=r"patch_size_t is 2"):
        plan_for("CogVideoXTransformer3DModel", {"patch_size_t": 2})
    with pytest.raises(V2WError, match="image_condition_type is 'token_replace'"):
        plan_for("HunyuanVideoTransformer3DModel", {"image_condition_type": "token_replace"})

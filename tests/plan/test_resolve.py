from typing import Any

import pytest

from v2w_convert.errors import V2WError
from v2w_convert.plan.coverage import require_coverage
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import parse_plan
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve

SVD = "UNetSpatioTemporalConditionModel"


def edited(**change: object) -> Plan:
    """The SVD plan with operations changed: name -> new fields, or None to leave the operation out."""
    data = plan_for(SVD).model_dump(mode="json")
    operations = []
    for entry in data["operations"]:
        ((name, fields),) = entry.items()
        if name not in change:
            operations.append(entry)
        elif change[name] is not None:
            operations.append({name: {**fields, **change[name]}})  # type: ignore[dict-item]
    return parse_plan({**data, "operations": operations}, "test")


def test_the_plan_resolves_on_the_full_size_model() -> None:
    plan = plan_for(SVD)
    config = {
        "_class_name": SVD,
        "num_frames": 25,
    }  # everything else is the class's default: the released size
    resolved = resolve(plan, config)
    counts = {op.name: sum(o is op for o in resolved.sites.values()) for op in resolved.plan.operations}
    assert counts == {
        "causal_conv": 44,
        "frame_norm": 44,
        "causal_attention": 16,
        "frame_position": 16,
        "action": 1,
    }
    assert resolved.noise.kind == "edm"
    assert resolved.window == 25


def test_the_checkpoints_scheduler_has_the_last_word() -> None:
    plan = plan_for(SVD)
    scheduler = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "beta_schedule": "linear"}
    resolved = resolve(plan, plan.tiny, scheduler)
    assert (resolved.noise.kind, resolved.noise.prediction) == ("ddpm", "v")


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"_class_name": "SCMScheduler"}, "scheduler_config.json: it is a 'SCMScheduler', whose noise is not known"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "noise of kind flow, the plan's is edm"),
        ({"_class_name": "DDIMScheduler", "thresholding": True}, "DDIMScheduler with thresholding True"),
        ({"_class_name": "DDIMScheduler", "trained_betas": [0.1] * 3}, "its noise cannot be built from scheduler_c"),
    ],
)  # fmt: skip
def test_a_scheduler_that_cannot_be_sampled_is_refused(scheduler: dict[str, Any], said: str) -> None:
    plan = plan_for(SVD)
    with pytest.raises(V2WError, match=said):
        resolve(plan, plan.tiny, scheduler)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"frame_norm": {"at": "**.temporal_res_blok.norm[12]"}}, "matches nothing, nearest are .*norm"),
        ({"frame_norm": {"at": "**.temporal_res_block.conv1"}}, "both causal_conv and frame_norm match"),
        ({"frame_norm": {"at": "**.temporal_transformer_blocks.*.norm1"}}, "is a LayerNorm, not a GroupNorm"),
        ({"causal_attention": {"at": "**.temporal_transformer_blocks.*.attn2"}}, "attends to something else"),
        ({"causal_attention": {"window": "frames"}}, "config has no 'frames'"),
        ({"frame_position": {"period": 3}}, "window 5 is longer than the positions' period 3"),
    ],
)
def test_faults(change: dict[str, object], expected: str) -> None:
    plan = edited(**change)
    with pytest.raises(V2WError, match=expected):
        resolve(plan, plan.tiny)


def test_all_faults_come_together() -> None:
    plan = edited(frame_norm={"at": "nowhere"}, action={"at": "elsewhere"})
    with pytest.raises(V2WError, match="nowhere.*elsewhere"):
        resolve(plan, plan.tiny)


@pytest.mark.parametrize("left_out", ["causal_conv", "frame_norm", "causal_attention"])
def test_a_forgotten_mixing_site_is_named(left_out: str) -> None:
    site = {"causal_conv": "temporal_res_block.conv1", "frame_norm": "temporal_res_block.norm1"}.get(
        left_out, "attn1"
    )
    with pytest.raises(V2WError, match=f"frames mix in .*{site}"):
        require_coverage(edited(**{left_out: None}))


def test_the_shipped_plan_forgets_nothing() -> None:
    require_coverage(plan_for(SVD))


def test_another_class_is_refused() -> None:
    plan = plan_for(SVD)
    with pytest.raises(V2WError, match="UNet2DConditionModel"):
        resolve(plan, {**plan.tiny, "_class_name": "UNet2DConditionModel"})
    with pytest.raises(V2WError, match="no shipped plan"):
        plan_for("UNet2DConditionModel")


def test_a_config_that_cannot_be_built_is_refused() -> None:
    plan = plan_for(SVD)
    with pytest.raises(V2WError, match="cannot be built"):
        resolve(plan, {**plan.tiny, "block_out_channels": [32]})


def with_call(**changes: object) -> Plan:
    data = plan_for(SVD).model_dump(mode="json")
    return parse_plan({**data, "call": {**data["call"], **changes}}, "test")


def test_a_call_that_the_base_cannot_answer_is_refused() -> None:
    latents = {"argument": "sample", "layout": "b t c h w", "channels": "depth"}
    with pytest.raises(V2WError, match=r"call\..*: the base's config has no 'depth'"):
        resolve(with_call(latents=latents), plan_for(SVD).tiny)
    condition = {"argument": "added_time_ids", "shape": [3], "fill": "rate"}
    with pytest.raises(V2WError, match=r"call\..*: the base's config has no 'rate'"):
        resolve(with_call(conditions={"added_time_ids": condition}), plan_for(SVD).tiny)
    with pytest.raises(V2WError, match="call a UNet.* unexpected keyword argument 'frames'"):
        require_coverage(with_call(constants={"frames": 3}))
    with pytest.raises(V2WError, match="call a UNet"):
        require_coverage(with_call(latents={**latents, "channels": 4, "layout": "b (t c h w"}))


def test_a_tensor_that_the_base_does_not_have_is_refused() -> None:
    with pytest.raises(V2WError, match="the base has no tensor 'positions'"):
        resolve(edited(frame_position={"mode": "table", "table": "positions"}), plan_for(SVD).tiny)


@pytest.mark.parametrize("name", ["DiffusionPipeline", "DDIMScheduler", "logging", "Nothing"])
def test_only_models_are_built(name: str) -> None:
    with pytest.raises(V2WError, match=f"diffusers has no model '{name}'"):
        resolve(plan_for(SVD), {"_class_name": name})

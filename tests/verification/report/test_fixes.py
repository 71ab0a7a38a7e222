from collections.abc import Callable
from pathlib import Path

import pytest

from v2w_convert.plan.read import parse_plan, read_plan, shipped_plans
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.claims import SPECS
from v2w_convert.verification.report.fixes import add_fixes, patterns
from v2w_convert.verification.run import verify

CONV = "down_blocks.1.resnets.0.temporal_res_block.conv2"
NORM = "down_blocks.0.resnets.0.temporal_res_block.norm1"


def resolved(name: str = "stable-video-diffusion") -> ResolvedPlan:
    plan = read_plan(shipped_plans()[name])
    return resolve(plan, {**plan.tiny, "_class_name": plan.base})


def fix(id: str, where: str, plan: str = "stable-video-diffusion") -> str:
    (claim,) = add_fixes([SPECS[id].result(1.0, where=where, how="")], resolved(plan))
    return claim.fix


def test_only_claims_that_fail_have_a_fix() -> None:
    files = SPECS["files-match-manifest"]
    claims = [files.result(0.0, how=""), SPECS["distance"].result(2.0, where=CONV, how="")]
    assert add_fixes([*claims, files.result(1.0, how="")], resolved())[:2] == claims


@pytest.mark.slow
def test_a_rule_that_is_missing_is_written_out(
    rewritten: Callable[..., Path], tiny_converted: Path, tiny_base: Path
) -> None:
    """Added to the plan, the lines of the fix complete it."""
    plan = read_manifest(tiny_converted).plan
    rest = [entry for entry in plan["operations"] if not {"frame_norm", "frame_position"} & entry.keys()]
    folder = rewritten(plan=plan | {"operations": rest})
    failing = {claim.id: claim for claim in verify(folder, tiny_base).claims if not claim.ok}
    lines = failing["coverage"].fix.splitlines()
    assert lines[0] == "add to the plan's operations, and convert again:"
    entries = [line.removeprefix("- frame_norm: {at: ").strip('"}') for line in lines[1:]]
    whole = plan | {"operations": [*rest, *({"frame_norm": {"at": at}} for at in entries)]}
    fixed = resolve(parse_plan(whole, "test"), resolved().config)
    assert {n for n, op in fixed.sites.items() if op.name == "frame_norm"} == {
        n for n, op in resolved().sites.items() if op.name == "frame_norm"
    }
    assert failing["identity"].where == NORM
    assert failing["identity"].fix.endswith(f'- frame_norm: {{at: "{NORM}"}}')


def test_positions_that_are_missing_are_written_out() -> None:
    plan = read_plan(shipped_plans()["stable-video-diffusion"])
    rest = [operation for operation in plan.operations if operation.name != "frame_position"]
    without = resolve(plan.model_copy(update={"operations": tuple(rest)}), resolved().config)
    where = "down_blocks.0.attentions.0.time_proj"
    (claim,) = add_fixes([SPECS["identity"].result(1.0, where=where, how="")], without)
    assert claim.fix.endswith('- frame_position: {at: "down_blocks.*.attentions.*.time_proj"}')


def test_the_fix_names_the_rule_of_a_site() -> None:
    made = 'check its rule in the plan: - causal_conv: {"at"'.replace('"at"', "at")
    assert fix("causal", CONV).startswith(f'{made}: "**.temporal_res_block.conv[12]"')
    assert fix("sites-receptive-field", f"{CONV}, {CONV.replace('conv2', 'conv1')}").count("causal_conv") == 1
    assert "v2w convert --window" in fix(
        "sites-receptive-field", "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"
    )
    assert "v2w finetune" in fix("action-has-effect", "time_embedding")
    assert "convert again" in fix("invariants", CONV)


def test_norms_left_over_the_clip_have_repair_as_their_fix() -> None:
    assert "v2w convert --repair" in fix("causal", "init_attn.0.norm", "vid2world")


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("tensors-kept", "v2w convert BASE -o OUT"),
        ("base-files-match-manifest", "--base"),
        ("identity", "`call` in the plan"),
        ("control-base-leaks-future", "`call` in the plan"),
    ],
)
def test_fixes_where_no_module_is_to_blame(id: str, expected: str) -> None:
    assert expected in fix(id, "")


def test_a_module_that_no_operation_fits() -> None:
    assert (
        fix("coverage", "conv_in.bias, time_embedding.linear_1")
        == "no operation fits a Linear: time_embedding.linear_1"
    )
    assert "`call`" in fix("identity", "conv_in")  # nothing mixes there: it is given something else


def test_patterns_match_no_other_module() -> None:
    modules = [name for name, _ in resolved().base.named_modules()]
    norms = [name for name in modules if name.endswith("temporal_res_block.norm1")]
    assert len(patterns(norms, modules)) < len(norms)
    assert patterns(norms[:1] + norms[2:], modules) != patterns(norms, modules)
    assert patterns([NORM], [NORM, NORM.replace(".0.", ".1.")]) == [NORM]

from collections.abc import Callable
from pathlib import Path

import pytest

from v2w_convert.plan.read import parse_plan, read_plan, shipped_plans
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.surgery.manifest import read_manifest
from v2w_convert.verification.claims import Claim, figure
from v2w_convert.verification.mend import mended, patterns
from v2w_convert.verification.run import verify

CONV = "down_blocks.1.resnets.0.temporal_res_block.conv2"
NORM = "down_blocks.0.resnets.0.temporal_res_block.norm1"


def resolved(name: str = "stable-video-diffusion") -> ResolvedPlan:
    plan = read_plan(shipped_plans()[name])
    return resolve(plan, {**plan.tiny, "_class_name": plan.base})


def mend(name: str, where: str, plan: str = "stable-video-diffusion") -> str:
    (claim,) = mended([Claim(name, 1.0, 0.0, where, "")], resolved(plan))
    return claim.mend


def test_only_what_fails_is_mended() -> None:
    claims = [Claim("files", 0.0, 0.0, "", ""), figure("distance", 2.0, CONV, "")]
    assert mended([*claims, Claim("files", 1.0, 0.0, "", "")], resolved())[:2] == claims


def test_a_rule_that_is_missing_is_written_out(
    rewritten: Callable[..., Path], tiny_converted: Path, tiny_base: Path
) -> None:
    """Added to the plan, the lines that are told make it whole."""
    plan = read_manifest(tiny_converted).plan
    rest = [entry for entry in plan["operations"] if not {"frame_norm", "frame_position"} & entry.keys()]
    folder = rewritten(plan=plan | {"operations": rest})
    failing = {claim.name: claim for claim in verify(folder, tiny_base).claims if not claim.ok}
    told = failing["coverage"].mend.splitlines()
    assert told[0] == "add to the plan's operations, and convert again:"
    entries = [line.removeprefix("- frame_norm: {at: ").strip('"}') for line in told[1:]]
    whole = plan | {"operations": [*rest, *({"frame_norm": {"at": at}} for at in entries)]}
    fixed = resolve(parse_plan(whole, "test"), resolved().config)
    assert {n for n, op in fixed.sites.items() if op.name == "frame_norm"} == {
        n for n, op in resolved().sites.items() if op.name == "frame_norm"
    }
    assert failing["identity"].where == NORM
    assert failing["identity"].mend.endswith(f'- frame_norm: {{at: "{NORM}"}}')


def test_positions_that_are_missing_are_written_out() -> None:
    plan = read_plan(shipped_plans()["stable-video-diffusion"])
    rest = [operation for operation in plan.operations if operation.name != "frame_position"]
    without = resolve(plan.model_copy(update={"operations": tuple(rest)}), resolved().config)
    where = "down_blocks.0.attentions.0.time_proj"
    (claim,) = mended([Claim("identity", 1.0, 0.0, where, "")], without)
    assert claim.mend.endswith('- frame_position: {at: "down_blocks.*.attentions.*.time_proj"}')


def test_a_site_names_the_rule_that_made_it() -> None:
    made = 'the rule that made it: - causal_conv: {"at"'.replace('"at"', "at")
    assert mend("future-unseen", CONV).startswith(f'{made}: "**.temporal_res_block.conv[12]"')
    assert mend("sites-see-past", f"{CONV}, {CONV.replace('conv2', 'conv1')}").count("causal_conv") == 1
    assert "v2w convert --window" in mend(
        "sites-see-past", "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"
    )
    assert "v2w finetune" in mend("action-heeded", "time_embedding")
    assert "convert again" in mend("promises", CONV)


def test_norms_left_over_the_clip_are_told_of_mend() -> None:
    assert "v2w convert --repair" in mend("future-unseen", "init_attn.0.norm", "vid2world")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tensors-kept", "v2w convert BASE OUT"),
        ("base-files", "--base"),
        ("identity", "`call` in the plan"),
        ("base-mixes", "`call` in the plan"),
    ],
)
def test_what_no_module_is_to_blame_for(name: str, said: str) -> None:
    assert said in mend(name, "")


def test_what_no_operation_fits() -> None:
    assert (
        mend("coverage", "conv_in.bias, time_embedding.linear_1")
        == "no operation fits a Linear: time_embedding.linear_1"
    )
    assert "`call`" in mend("identity", "conv_in")  # nothing mixes there: it is given something else


def test_patterns_match_no_other_module() -> None:
    modules = [name for name, _ in resolved().base.named_modules()]
    norms = [name for name in modules if name.endswith("temporal_res_block.norm1")]
    assert len(patterns(norms, modules)) < len(norms)
    assert patterns(norms[:1] + norms[2:], modules) != patterns(norms, modules)
    assert patterns([NORM], [NORM, NORM.replace(".0.", ".1.")]) == [NORM]

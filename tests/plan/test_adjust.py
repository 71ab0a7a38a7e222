import pytest

from v2w_convert.errors import V2WError
from v2w_convert.plan.adjust import adjust_plan
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import ResolvedPlan, resolve


def given(name: str, **wanted: int) -> ResolvedPlan:
    plan = adjust_plan(read_plan(shipped_plans()[name]), **wanted)  # type: ignore[arg-type]
    return resolve(plan, {**plan.tiny, "_class_name": plan.base})


def test_another_transfer_at_every_convolution() -> None:
    plan = adjust_plan(read_plan(shipped_plans()["stable-video-diffusion"]), transfer="extrapolative")
    assert plan.operations[0].transfer == "extrapolative"  # type: ignore[attr-defined]
    with pytest.raises(V2WError, match="transfer"):
        adjust_plan(plan, transfer="sideways")


def test_another_view_at_every_attention() -> None:
    resolved = given("wan", frames_per_block=3, window=12, sinks=3)
    assert (resolved.frames_per_block, resolved.window) == (3, 12)
    assert {op.sinks for op in resolved.plan.operations if op.name == "causal_attention"} == {3}


@pytest.mark.parametrize(
    ("name", "wanted", "found"),
    [
        ("wan", {"frames_per_block": 4, "window": 3}, "a window of 3 is less than a block of 4"),
        ("wan", {"frames_per_block": 2, "sinks": 3}, "3 sinks are not whole blocks of 2"),
        ("cogvideox-15", {"frames_per_block": 3}, "packs 2 frames into one, so blocks have 2, 4"),
        ("latte", {"frames_per_block": 2}, "takes clips of one length"),
        ("stable-video-diffusion", {"sinks": 1}, "two frames in view would have one position"),
        ("i2vgen-xl", {"window": 0}, "window: 0 frames"),
        ("sana-video", {"window": 8}, "has no causal_attention"),
        ("wan", {"transfer": "shift"}, "has no causal_conv"),
        ("vid2world", {"frames_per_block": 2}, "trained with one action at a time"),
    ],
)
def test_what_a_plan_cannot_be_is_said(name: str, wanted: dict[str, int], found: str) -> None:
    with pytest.raises(V2WError, match=found):
        given(name, **wanted)

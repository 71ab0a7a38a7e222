"""A plan that is wrong in one point still converts a checkpoint; `verify` finds the fault."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_model
from v2w_convert.checkpoint.open import open_source
from v2w_convert.errors import V2WError
from v2w_convert.plan.coverage import require_coverage
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import parse_plan, read_plan, shipped_plans
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.surgery.convert import convert
from v2w_convert.verification.run import verify
from v2w_convert.world.model import World

Edit = Callable[[list[dict[str, Any]]], None]

# Sites of DynamiCrafter
FIRST = "init_attn.0.transformer_blocks.*.attn[12]"
TEMPORAL = "**.2.transformer_blocks.*.attn[12]"
NORMS = "**.temopral_conv.conv[1234].0"


def edited(name: str, edit: Edit) -> Plan:
    data = read_plan(shipped_plans()[name]).model_dump(mode="json")
    edit(data["operations"])
    return parse_plan(data, "test")


def at(kind: str, **changes: Any) -> Edit:
    """Other fields for the first operation of a kind; `rotary` is changed within."""

    def edit(operations: list[dict[str, Any]]) -> None:
        fields = next(entry[kind] for entry in operations if kind in entry)
        if isinstance(changes.get("rotary"), dict):
            fields["rotary"] |= changes["rotary"]
        else:
            fields |= changes

    return edit


def without(kind: str) -> Edit:
    def edit(operations: list[dict[str, Any]]) -> None:
        operations[:] = [entry for entry in operations if kind not in entry]

    return edit


def moved(pattern: str, *patterns: str) -> Edit:
    """Other patterns for the one operation at `pattern`; none: it is left out."""

    def edit(operations: list[dict[str, Any]]) -> None:
        (index,) = [i for i, entry in enumerate(operations) for f in entry.values() if f["at"] == pattern]
        ((kind, fields),) = operations[index].items()
        operations[index : index + 1] = [{kind: fields | {"at": other}} for other in patterns]

    return edit


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("wan", at("causal_attention", rotary={"theta": 9000})),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("wan", at("causal_attention", rotary=None)),
                ("hunyuan-video", at("causal_attention", rotary={"size": 4})),
                ("cosmos", at("causal_attention", rotary={"pairing": "interleaved"})),
                ("ltx-video", at("causal_attention", rotary={"start": 0})),
                ("mochi", at("causal_attention", rotary={"learned": None})),
                ("sana-video", at("linear_attention", rotary={"scale": 2})),
                ("cogvideox", at("causal_attention", text="last")),
                ("latte", without("frame_position")),
                ("cogvideox-2b", without("frame_position")),
                ("dynamicrafter", moved(TEMPORAL, TEMPORAL, "**.1.transformer_blocks.*.attn1")),  # spatial
            )
        ),
    ],
)
def test_an_error_in_a_plan_fails_the_identity_claim(
    name: str, edit: Edit, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    plan, base = edited(name, edit), tiny_checkpoint(name)
    source = open_source(base)
    convert(source, resolve(plan, source.config), tmp_path / "out", action_dim=3)
    broken = {claim.id for claim in verify(tmp_path / "out", base).claims if not claim.ok}
    assert "identity" in broken


def test_a_prompt_of_another_length_is_refused_where_a_plan_takes_it_for_frames() -> None:
    plan = edited("easyanimate", at("causal_attention", text=None))
    base = tiny_model("easyanimate")
    resolved = resolve(plan, plan.tiny)
    apply_surgery(resolved, base, 3, seed=0)
    world = World(base, resolved, 3, resolved.call.null_conditions())
    stream = world.stream(1, 4, 8)  # begins with the null prompt
    with pytest.raises(V2WError, match="and had 264 when the stream began"):
        world.forward_streamed(
            stream.state, torch.zeros(1, 1, 4, 4, 8), torch.zeros(1, 1), text=torch.zeros(1, 3, 16)
        )


@pytest.mark.parametrize("name", ["unet-3d", "i2vgen-xl", "animatediff"])
def test_a_plan_without_the_norms_is_refused(name: str) -> None:
    with pytest.raises(V2WError, match=r"frames mix in .*norm.*GroupNorm"):
        require_coverage(edited(name, without("frame_norm")))


def test_a_plan_without_the_mixing_sites_of_a_condition_is_refused() -> None:
    incomplete = moved("image_latents_temporal_encoder.attn1")
    with pytest.raises(V2WError, match=r"frames mix in image_latents_temporal_encoder\.attn1 \(Attention\)"):
        require_coverage(edited("i2vgen-xl", incomplete))


@pytest.mark.parametrize(
    ("edit", "missing"),
    [
        (
            moved(TEMPORAL, "**.2.transformer_blocks.*.attn1"),
            r"\.2\.transformer_blocks\.0\.attn2 \(Attention\)",
        ),
        (moved(FIRST), r"init_attn\.0\.transformer_blocks\.0\.attn1 \(Attention\)"),
        (
            moved(FIRST, FIRST.replace("[12]", "1")),
            r"init_attn\.0\.transformer_blocks\.0\.attn2 \(Attention\)",
        ),
        (moved("**.2.norm"), r"middle_block\.2\.norm \(GroupNorm\)"),
        (moved("init_attn.0.norm"), r"init_attn\.0\.norm \(GroupNorm\)"),
        (moved(NORMS, NORMS.replace("4", "")), r"\.temopral_conv\.conv4\.0 \(GroupNorm\)"),
        (moved("**.temopral_conv.conv1.2"), r"\.temopral_conv\.conv1\.2 \(Conv3d\)"),
    ],
)
def test_a_mixing_site_missing_from_dynamicrafters_plan_is_named(edit: Edit, missing: str) -> None:
    with pytest.raises(V2WError, match=f"frames mix in [^ ]*{missing}"):
        require_coverage(edited("dynamicrafter", edit))

"""65 to 72: plans."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.conftest import Refused
from v2w_convert.plan.read import shipped_plans

PLAN = shipped_plans()["stable-video-diffusion"].read_text()
NORM = '  - frame_norm:       {at: "**.temporal_res_block.norm[12]"}\n'


def put(old: str, new: str) -> str:
    assert PLAN.count(old) >= 1, old
    return PLAN.replace(old, new, 1)


def rule(text: str) -> str:
    """One rule more."""
    return PLAN + f"  - {text}\n"


CASES: dict[str, tuple[str, list[str]]] = {
    "65 a tag that calls": ("v2w: !!python/object/apply:os.system ['touch ran']\n", ["not plain YAML", "os.system"]),
    "65 a tag that imports": ("v2w: !!python/name:os.system\n", ["not plain YAML"]),
    "65 a tag of its own": ("v2w: !evil 1\n", ["not plain YAML"]),
    "66 a bomb of aliases": (
        "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)),
        ["aliases"],
    ),
    "66 an alias of itself": ("a: &a [*a]\n", ["aliases"]),
    "66 a merge": (PLAN + "<<: {v2w: 1}\n", ["not the name of a field"]),
    "66 a megabyte": (PLAN + "#" * 1_000_000, ["larger than"]),
    "66 nested too deeply": ("v2w: " + "[" * 20_000, ["plan"]),
    "66 many operations": (PLAN + '  - frame_norm: {at: "x"}\n' * 500, ["operations", "64"]),
    "67 a field misspelt": (put("period: 32", "periode: 32"), ["periode: unknown field, nearest is period"]),
    "67 a field misspelt far in": (put("argument: timestep", "argumnt: timestep"), ["argumnt: unknown field, nearest is argument", "line 26"]),
    "67 a field of a million letters": (PLAN + "? " + "x" * 40_000 + "\n: 1\n", ["unknown field"]),
    "67 a field with an escape sequence": (PLAN + '"\\e[31mx\\u202e": 1\n', ["x1b[31mx"]),
    "67 an operation misspelt": (put("frame_norm:", "frame_nrom:"), ["there is no operation 'frame_nrom'"]),
    "67 a field written twice": (put("v2w: 2", "v2w: 2\nv2w: 2"), ["written twice"]),
    "67 a field that is a list": (PLAN + "? [a]\n: 1\n", ["not the name of a field"]),
    "67 a field that is a number": (PLAN + "7: 1\n", ["not the name of a field"]),
    "67 another version": (put("v2w: 2", "v2w: 1"), ["v2w"]),
    "68 a pattern that takes for ever": (rule('frame_norm: {at: "' + "**a" * 30 + '"}'), ["more than 4 of * and **"]),
    "68 a long pattern": (rule('frame_norm: {at: "' + "a" * 10_000 + '"}'), ["longer than 200"]),
    "68 a pattern that is none": (rule('frame_norm: {at: "[z-a]"}'), ["not a pattern"]),
    "69 two rules for one module": (rule('frame_norm: {at: "**.temporal_res_block.conv[12]"}'), ["both causal_conv and frame_norm match"]),
    "70 a rule for none": (put("at: time_embedding", "at: time_embeding"), ["matches nothing, nearest are time_embedding"]),
    "70 a module without a rule": (put(NORM, ""), ["frames mix in"]),
    "72 no": (put("transfer: masked", "transfer: no"), ["line ", "bool"]),
    "72 octal": (put("period: 32", "period: 040"), ["line ", "int"]),
    "72 base sixty": (put("period: 32", "period: 1:30"), ["line ", "int"]),
    "72 a number with an exponent": (put("period: 32", "period: 1e3"), ["not a whole number"]),
    "72 a date": (put("period: 32", "period: 2026-99-99"), ["plan"]),
    "72 NaN": (put("fill: [6, 127, 0.02]", "fill: .nan"), ["added_time_ids", "number"]),
    "72 infinity": (put("fill: [6, 127, 0.02]", "fill: .inf"), ["added_time_ids", "number"]),
    "72 a huge number": (put("period: 32", "period: " + "9" * 5000), ["plan"]),
    "72 a word": (put("period: 32", "period: many"), ["frame_position", "'many'"]),
    "a list": ("- 1\n", ["the plan"]),
    "nothing": ("", ["the plan"]),
    "two documents": (PLAN + "---\n" + PLAN, ["not plain YAML"]),
    "control characters": (PLAN + "\x07", ["not plain YAML"]),
    "another class": (put("base: UNetSpatioTemporalConditionModel", "base: WanTransformer3DModel"), ["the plan is for WanTransformer3DModel"]),
    "a class by path": (put("base: UNetSpatioTemporalConditionModel", "base: os.system"), ["base"]),
    "a family that is none": (put("token_counts:      {n: 1}", "token_counts: {n: 1}\n  computed_arguments: os.system"), ["there is no family"]),
    "a tiny model that is not": (put("block_out_channels: [32, 64]", "block_out_channels: [32000, 64000]"), ["tiny", "over the limit"]),
    "a tiny model without end": (put("layers_per_block: 1", "layers_per_block: 1000000000000"), ["tiny", "layers_per_block"]),
    "a tiny model that is none": (put("block_out_channels: [32, 64]", "block_out_channels: x"), ["tiny"]),
    "a trillion tokens": (put("{n: 1}", "{n: 1000000000000}"), ["conditions.text"]),
    "fewer tokens than none": (put("{n: 1}", "{n: -1}"), ["conditions.text"]),
    "a trillion channels": (put("channels: out_channels", "channels: 1000000000"), ["channels"]),
    "no channel": (put("channels: out_channels", "channels: 0"), ["channels"]),
    "a power of a power": (put("channels: out_channels", "channels: 9**99**99"), ["channels", "cannot be worked out"]),
    "a word times a number": (put("channels: out_channels", "channels: _class_name*1000000000"), ["cannot be worked out"]),
    "a call": (put("channels: out_channels", "channels: __import__('os').system('true')"), ["not a number"]),
    "an attribute": (put("channels: out_channels", "channels: in_channels.real"), ["not a number"]),
    "a long calculation": (put("channels: out_channels", "channels: " + "1+" * 5000 + "1"), ["longer than 200"]),
    "parentheses": (put("channels: out_channels", "channels: " + "(" * 190), ["cannot be worked out"]),
    "an argument that the base has not": (put("argument: timestep", "argument: nonsense"), ["nonsense"]),
    "an argument given twice": (put("argument: timestep", "argument: sample"), ["call"]),
    "an argument that v2w gives": (put("argument: timestep", "argument: return_dict"), ["return_dict"]),
    "a layout without frames": (put("layout: b t c h w", "layout: b c c h w"), ["call a"]),
    "a view of a billion frames": (put("window: num_frames", "window: 1000000000"), ["window"]),
    "sinks without end": (put("window: num_frames", "window: 5, sinks: 1000000000"), ["sinks"]),
    "blocks of a billion frames": (PLAN + "frames_per_block: 1000000000\n", ["frames_per_block"]),
    "a row that does not fit": (put("fill: [6, 127, 0.02]", "fill: [6, 127]"), ["added_time_ids"]),
    "noise of a trillion timesteps": (put("prediction: v,", "prediction: v, scheduler: {num_train_timesteps: 1000000000000},"), ["num_train_timesteps"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_plan_is_refused(
    case: str, plain: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, mentions = CASES[case]
    file = plain.parent / "plan.yaml"
    file.write_text(text)
    monkeypatch.chdir(plain.parent)
    refused(
        "convert", plain, "-o", plain.parent / "out", "--action-dim", 3, "--plan", file, mentions=mentions
    )


@pytest.mark.parametrize(
    "kind", [os.mkfifo, os.mkdir, lambda file: file.write_bytes(b"\xff\xfe"), lambda file: None]
)
def test_a_plan_that_is_not_text_is_refused(
    kind: Callable[[Path], object], plain: Path, refused: Refused
) -> None:
    file = plain.parent / "plan.yaml"
    kind(file)
    for command in (["convert", plain, "-o", plain.parent / "out", "--action-dim", 3], ["inspect", plain]):
        refused(*command, "--plan", file, mentions=[str(file)])


def test_71_an_edited_plan_is_accepted_but_its_output_is_not_mixed_with_anothers(
    plain: Path, refused: Refused, converts: Callable[..., str]
) -> None:
    """Accepted: plans are made to be edited. But an output of another plan is not taken for this one's."""
    file, out = plain.parent / "plan.yaml", plain.parent / "out"
    file.write_text(PLAN)
    converts("convert", plain, "-o", out, "--action-dim", 3, "--plan", file)
    file.write_text(put("window: num_frames", "window: 3"))
    refused("convert", plain, "-o", out, "--action-dim", 3, "--plan", file, mentions=["another plan"])

"""The plans' calls against diffusers' own pipelines, and claims that must fail for a wrong one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.families.pipeline_cases import PICTURE as WITH_PICTURE
from tests.families.pipeline_cases import TEXT, Case
from tests.families.published import PUBLISHED
from tests.tiers import slow_except
from tests.tiny import tiny_plan, tiny_resolved
from v2w_convert.families import IMAGE_CONDITIONS
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.verification.claims.pipeline import measure_forward, measure_pipeline


@pytest.mark.parametrize("name", slow_except({"kandinsky-5"}, TEXT))
def test_a_text_to_video_base_receives_what_its_pipeline_gives_it(name: str) -> None:
    case = TEXT[name]
    arguments, picture = measure_pipeline(tiny_resolved(case.plan, case.config), case.autoencoder())
    assert arguments.status == "holds", arguments
    assert picture.status == "not measured"


@pytest.mark.parametrize("name", slow_except({"wan 2.1, image to video"}, WITH_PICTURE))
def test_an_image_to_video_base_receives_what_its_pipeline_makes_of_a_picture(name: str) -> None:
    case = WITH_PICTURE[name]
    arguments, picture = measure_pipeline(tiny_resolved(case.plan, case.config), case.autoencoder())
    assert (arguments.status, picture.status) == ("holds", "holds"), (arguments, picture)


def changed_call(resolved: ResolvedPlan, **changes: Any) -> ResolvedPlan:
    return replace(resolved, call=replace(resolved.call, **changes))


def without_computed_arguments(resolved: ResolvedPlan) -> ResolvedPlan:
    return changed_call(resolved, computed_arguments=None)


def without_constants(resolved: ResolvedPlan) -> ResolvedPlan:
    return changed_call(resolved, constants={})


def without_condition(name: str) -> Callable[[ResolvedPlan], ResolvedPlan]:
    def change(resolved: ResolvedPlan) -> ResolvedPlan:
        return changed_call(
            resolved, conditions={key: c for key, c in resolved.call.conditions.items() if key != name}
        )

    return change


def with_fill(name: str, fill: float | list[float]) -> Callable[[ResolvedPlan], ResolvedPlan]:
    def change(resolved: ResolvedPlan) -> ResolvedPlan:
        condition = replace(resolved.call.conditions[name], fill=fill)
        return changed_call(resolved, conditions=resolved.call.conditions | {name: condition})

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "change", "argument"),
    [
        (TEXT["kandinsky-5"], without_computed_arguments, "scale_factor, text_rope_pos, visual_rope_pos"),
        (TEXT["cogvideox"], without_computed_arguments, "image_rotary_emb"),
        (TEXT["ltx-video"], without_constants, "rope_interpolation_scale"),
        (TEXT["hunyuan-video"], with_fill("guidance", 1000.0), "guidance"),
        (TEXT["mochi"], without_condition("text_mask"), "encoder_attention_mask"),
        (
            WITH_PICTURE["stable-video-diffusion"],
            with_fill("added_time_ids", [7.0, 127.0, 0.02]),
            "added_time_ids",
        ),
        (
            WITH_PICTURE["cogvideox-15, image to video"],
            without_condition("ofs"),
            "ofs",
        ),
        (WITH_PICTURE["i2vgen-xl"], with_fill("fps", 8.0), "fps"),
    ],
)
def test_an_argument_that_is_missing_or_wrong_is_named(
    case: Case, change: Callable[[ResolvedPlan], ResolvedPlan], argument: str
) -> None:
    resolved = change(tiny_resolved(case.plan, case.config))
    arguments, _ = measure_pipeline(resolved, case.autoencoder())
    assert (arguments.status, arguments.where) == ("fails", argument)


Tensors = dict[str, torch.Tensor]


def scaled(made: Tensors) -> Tensors:
    return {name: 2 * x for name, x in made.items()}


def to_every_frame(made: Tensors) -> Tensors:
    return {name: x[:1].expand_as(x) for name, x in made.items()}


def one_frame_late(made: Tensors) -> Tensors:
    return {name: x.roll(1, 0) for name, x in made.items()}


def inverted(made: Tensors) -> Tensors:
    """The mask, which is all that has no other values than 0 and 1."""
    return {name: torch.where((x == 0) | (x == 1), 1 - x, x) for name, x in made.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("stable-video-diffusion", scaled),
        ("cogvideox, image to video", scaled),
        ("cogvideox, image to video", to_every_frame),
        ("wan 2.1, image to video", scaled),
        ("wan 2.1, image to video", to_every_frame),
        ("wan 2.2, image to video", inverted),
        ("hunyuan-video, image to video", inverted),
        ("hunyuan-video-15, image to video", one_frame_late),
        ("kandinsky-5, image to video", inverted),
        ("cosmos, video to world", inverted),
        ("easyanimate, inpainting", scaled),
        ("i2vgen-xl", one_frame_late),
    ],
)
def test_a_wrong_picture_is_found(
    name: str, change: Callable[[Tensors], Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = WITH_PICTURE[name]
    resolved = tiny_resolved(case.plan, case.config)
    assert resolved.call.image_conditions is not None
    function = resolved.call.image_conditions.name
    right = IMAGE_CONDITIONS[function]
    monkeypatch.setitem(IMAGE_CONDITIONS, function, lambda *given: change(right(*given)))
    arguments, picture = measure_pipeline(resolved, case.autoencoder())
    assert (arguments.status, picture.status) == ("holds", "fails")


def test_a_dropped_argument_and_a_wrong_picture_are_found() -> None:
    """One of each of those that the slow tier sweeps."""
    arguments, _ = measure_pipeline(without_constants(tiny_resolved("ltx-video")), None)
    assert (arguments.status, arguments.where) == ("fails", "rope_interpolation_scale")
    case = WITH_PICTURE["wan 2.2, image to video"]
    resolved = tiny_resolved(case.plan, case.config)
    right = resolved.call.image_conditions
    assert right is not None

    def late(*given: Any) -> Tensors:
        return one_frame_late(right(*given))

    arguments, picture = measure_pipeline(changed_call(resolved, image_conditions=late), case.autoencoder())
    assert (arguments.status, picture.status, picture.where) == ("holds", "fails", "hidden_states")


def test_a_wrong_layout_is_found_by_what_the_pipeline_gives() -> None:
    for plan, layout in (("wan", "b c t w h"), ("sana-video", "b t c h w"), ("kandinsky-5", "b t w h c")):
        arguments, _ = measure_pipeline(changed_call(tiny_resolved(plan), layout=layout), None)
        assert (arguments.status, "hidden_states" in arguments.where) == ("fails", True)


def test_without_an_autoencoder_or_a_pipeline_nothing_is_measured() -> None:
    case = WITH_PICTURE["wan 2.1, image to video"]
    for claim in measure_pipeline(tiny_resolved(case.plan, case.config), None):
        assert claim.status == "not measured" and "no autoencoder" in claim.how
    for claim in measure_pipeline(tiny_resolved("dynamicrafter"), None):
        assert claim.status == "not measured" and "no pipeline" in claim.how


BRANCHES = {"mochi", "hunyuan-video-15"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - {"cosmos"}))
def test_the_forward_of_a_published_size_runs(name: str) -> None:
    plan = tiny_plan(name)
    claim = measure_forward(resolve(plan, {**PUBLISHED[name][0], "_class_name": plan.base}))
    assert claim.status == ("not measured" if name in BRANCHES else "holds"), claim


def test_a_forward_that_does_not_run_is_found() -> None:
    resolved = tiny_resolved("wan")
    assert measure_forward(resolved).status == "holds"
    text = replace(resolved.call.conditions["text"], sizes=(512, 17))
    claim = measure_forward(changed_call(resolved, conditions={"text": text}))
    assert claim.status == "fails" and "17" in claim.how

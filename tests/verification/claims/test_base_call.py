"""The base's call against one that is written down by hand, and that one against diffusers' own pipelines."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families.pipeline_cases import PICTURE, TEXT, Case
from tests.mutations.faults.base_call import CALL_BASE, height_and_width_exchanged
from tests.tiers import slow_except
from tests.tiny import tiny_folded
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.verification.claim import MODEL_FORWARD, Claim
from v2w_convert.verification.claims import base_call
from v2w_convert.verification.claims.base_call import measure_base_call
from v2w_convert.verification.claims.pipeline import FRAMES, SIZE, embedding
from v2w_convert.verification.engine import recorded_pipeline
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.published_calls import PUBLISHED_CALLS
from v2w_convert.verification.engine.recorded_pipeline import difference, record_pipeline

ROUNDING = 1e-5  # of the largest value: an autoencoder's float32


def measured(plan: str, config: dict[str, Any] | None = None, **call: Any) -> Claim:
    """The claim, of a plan with a changed call."""
    world, base = tiny_folded(plan, config)
    if call:
        world.resolved = replace(world.resolved, call=replace(world.resolved.call, **call))
    with exact():
        return measure_base_call(base.double(), world.double())


UNTRAINED = sorted(name for name in shipped_plans() if not name.startswith("vid2world"))


@pytest.mark.parametrize("plan", slow_except({"wan", "ltx-video", "kandinsky-5", "cogvideox"}, UNTRAINED))
def test_every_shipped_plan_calls_its_base_as_the_published_code_does(plan: str) -> None:
    claim = measured(plan)
    assert (claim.status, claim.measured, claim.where) == ("holds", 0.0, "")


def test_every_class_of_the_shipped_plans_has_a_published_call() -> None:
    assert {read_plan(file).base for file in shipped_plans().values()} == PUBLISHED_CALLS.keys()


@pytest.mark.parametrize("name", slow_except({"ltx-video", "kandinsky-5", "mochi", "wan"}, TEXT | PICTURE))
def test_the_published_call_gives_the_arguments_that_the_pipeline_gives(name: str) -> None:
    """The frames' axes by their lengths, which all differ; every other argument by its values."""
    case: Case = (TEXT | PICTURE)[name]
    world, _ = tiny_folded(case.plan, case.config)
    resolved, call, vae = world.resolved, world.resolved.call, case.autoencoder()
    published = PUBLISHED_CALLS[resolved.plan.base]
    generator = torch.Generator().manual_seed(0)
    given = {
        key: embedding(condition, generator)
        for key, condition in call.conditions.items()
        if not condition.is_per_frame
    }
    t, made, picture = resolved.frames(FRAMES), {}, None
    if call.image_conditions is not None and vae is not None:
        picture = torch.randint(0, 256, (*SIZE, 3), generator=generator, dtype=torch.uint8)
        made = {key: x[None] for key, x in call.image_conditions(vae, picture, t).items()}
    theirs = record_pipeline(resolved, given, t, SIZE, vae, picture)
    clip = published.frames(theirs[published.argument], theirs)[:, :, : call.channels]
    h, w = clip.shape[-2:]
    assert (clip.shape[1], clip.shape[2], h / w) == (t, call.channels, SIZE[0] / SIZE[1])
    assert len({t, h, w}) == 3
    ours = published.arguments(resolved.config, clip, torch.zeros(1), given | made)
    planned = resolved.plan.call
    unused = planned.conditions.keys() - planned.active_conditions(resolved.config).keys()
    names = (ours.keys() | theirs.keys()) - {planned.conditions[key].argument for key in unused}
    names -= {"timestep", "return_dict", "enable_diffusion_forcing"}
    assert {key: difference(ours[key], theirs[key]) <= ROUNDING for key in names} == dict.fromkeys(
        names, True
    )


def test_tokens_are_packed_as_ltx_video_packs_them() -> None:
    from diffusers import LTXPipeline

    published = PUBLISHED_CALLS["LTXVideoTransformer3DModel"]
    frames = torch.randn(2, 3, 4, 5, 6)
    packed = published.lay_out(frames)
    assert torch.equal(packed, LTXPipeline._pack_latents(frames.transpose(1, 2)))
    sizes = {"num_frames": 3, "height": 5, "width": 6}
    assert torch.equal(published.frames(packed, sizes), frames)


@pytest.mark.parametrize(
    ("plan", "argument"),
    [("wan", "hidden_states"), ("ltx-video", "hidden_states"), ("kandinsky-5", "hidden_states")],
)
def test_height_and_width_exchanged_in_the_layout(plan: str, argument: str) -> None:
    world, _ = tiny_folded(plan)
    claim = measured(plan, layout=height_and_width_exchanged(world.resolved.call.layout))
    assert (claim.status, claim.where) == ("fails", argument)


Change = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    ("latents", "time", "output", "where"),
    [
        (lambda x: x.flip(-2), None, lambda x: x.flip(-2), "hidden_states"),
        (lambda x: x.flip(2), None, lambda x: x.flip(2), "hidden_states"),
        (lambda x: x.flip(1), None, lambda x: x.flip(1), "hidden_states"),
        (None, lambda t: t + 1, None, "timestep"),
        (None, lambda t: t.flip(0), None, "timestep"),
        (None, None, lambda x: x.flip(-1), MODEL_FORWARD),
        (None, None, lambda x: x[:, :, :1], MODEL_FORWARD),
    ],
)
def test_a_fault_in_the_shared_call(
    latents: Change | None,
    time: Change | None,
    output: Change | None,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def same(x: Tensor) -> Tensor:
        return x

    def broken(base: Any, call: Any, frames: Tensor, timestep: Tensor, conditions: Any) -> Tensor:
        given = (latents or same)(frames), (time or same)(timestep)
        return (output or same)(CALL_BASE(base, call, *given, conditions))

    for module in (base_call, recorded_pipeline):
        monkeypatch.setattr(module, "call_base", broken)
    claim = measured("sana-video")
    assert (claim.status, claim.where) == ("fails", where)


def test_a_class_or_a_condition_without_a_published_call_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        PUBLISHED_CALLS,
        "WanTransformer3DModel",
        replace(PUBLISHED_CALLS["WanTransformer3DModel"], renamed={}),
    )
    claim = measured("wan")
    assert (claim.status, claim.how) == ("not measured", "not measured: the published call knows no text")
    monkeypatch.delitem(PUBLISHED_CALLS, "WanTransformer3DModel")
    assert "no published call of a WanTransformer3DModel" in measured("wan").how

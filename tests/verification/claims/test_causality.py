import pytest
import torch

from tests.mutations import faults
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.sites import Site
from v2w_convert.verification.claims.causality import (
    Trial,
    choose_trials,
    measure_batch_independence,
    measure_causality,
)
from v2w_convert.verification.claims.coverage import measure_control
from v2w_convert.verification.engine.inputs import base_call, random_inputs, uniform
from v2w_convert.verification.engine.models import Models
from v2w_convert.verification.module import influence
from v2w_convert.world import model
from v2w_convert.world.model import World

CONV = "up_blocks.0.resnets.1.temporal_res_block.conv1"
NORM = "down_blocks.0.resnets.0.temporal_res_block.norm2"
ATTENTION = "up_blocks.1.attentions.1.temporal_transformer_blocks.0.attn1"


def test_unbroken(randomized: World) -> None:
    for claim in (measure_causality(randomized), measure_batch_independence(randomized)):
        assert (claim.measured, claim.where, claim.ok) == (0.0, "", True)


@pytest.mark.parametrize("name", [CONV, NORM, ATTENTION])
def test_one_site_that_sees_the_future_is_named(randomized: World, name: str) -> None:
    faults.sees_future(randomized.sites[name])
    claim = measure_causality(randomized)
    assert not claim.ok
    assert claim.measured is not None
    assert claim.measured > 1e-6
    assert claim.where == name


def test_an_action_that_comes_a_frame_early_is_found(randomized: World) -> None:
    faults.action_one_frame_early(randomized.sites["time_embedding"])
    claim = measure_causality(randomized)
    assert not claim.ok
    assert claim.where == "time_embedding"


def test_a_site_that_mixes_clips_is_named(randomized: World) -> None:
    faults.mixes_clips(randomized.sites[CONV])
    claim = measure_batch_independence(randomized)
    assert not claim.ok  # the second clip continues the first
    assert "Clips" in claim.sentence


def test_a_norm_over_the_batch_is_named(randomized: World) -> None:
    site = randomized.sites[NORM]

    forward = type(site).forward
    over_all = {"forward": lambda self, x: forward(self, x) - 1e-9 * x.mean(0)}
    site.__class__ = type("BatchNorm", (type(site),), over_all)
    assert measure_batch_independence(randomized).where == NORM


def test_the_control_finds_the_leak_of_the_base_and_none_in_the_world(models: Models) -> None:
    assert models.base is not None
    randomize_zero_init(models.base)
    inputs = uniform(random_inputs(models.world, 1, 4, seed=0), models.world)
    latents = inputs["latents"]
    assert measure_control(influence(base_call(models.base, models.world, inputs), latents, frame_dim=1)).ok
    folded = influence(lambda x: models.world(**inputs | {"latents": x}), latents, frame_dim=1)
    claim = measure_control(folded)
    assert (claim.measured, claim.ok) == (3.0, False)


def test_a_fault_in_the_second_clip_alone_is_found(randomized: World) -> None:
    faults.sees_future_in_clip(randomized.sites[CONV], 1)
    claim = measure_causality(randomized)
    assert not claim.ok
    assert claim.where == CONV


def test_a_fault_above_a_batch_of_one_is_found(randomized: World) -> None:
    faults.sees_future_if(randomized.sites[CONV], lambda now: now.b > 1)
    assert measure_causality(randomized, trials=[Trial(0, 2, [0])]).ok
    assert measure_causality(randomized).where == CONV


def test_a_fault_in_a_batch_of_one_is_found(randomized: World) -> None:
    faults.sees_future_if(randomized.sites[CONV], lambda now: now.b == 1)
    assert measure_causality(randomized).where == CONV


def test_a_fault_in_clips_longer_than_the_window_is_found(randomized: World) -> None:
    window = randomized.resolved.window
    assert window is not None
    faults.sees_future_if(randomized.sites[CONV], lambda now: now.t > window)
    usual = [trial for trial in choose_trials(randomized) if trial.blocks <= window]
    assert {trial.blocks for trial in usual} == {2}  # this model's window is five frames: seven are beyond it
    assert measure_causality(randomized, trials=usual).ok
    assert measure_causality(randomized).where == CONV


@pytest.mark.parametrize("kind", ["text", "image_latents", "added_time_ids"])
def test_a_leak_through_one_condition_is_found(
    randomized: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame is given a trace of the next one's."""
    right = model.fold_condition

    def leaky(value: torch.Tensor, name: str, *rest: object) -> torch.Tensor:
        folded = right(value, name, *rest)  # type: ignore[arg-type]
        return folded + 1e-9 * folded.roll(-1, 0) if name == kind else folded

    monkeypatch.setattr(model, "fold_condition", leaky)
    assert not measure_causality(randomized).ok


def test_a_third_clip_that_the_first_sees_is_found(randomized: World) -> None:
    site = randomized.sites[NORM]
    forward = type(site).forward

    def first_sees_last(self: Site, x: torch.Tensor) -> torch.Tensor:
        out = forward(self, x)
        clips = out.unflatten(0, (self.context.b, -1)).clone()
        if self.context.b > 2:
            clips[0] += 1e-9 * clips[2]
        return clips.flatten(0, 1)

    site.__class__ = type("FirstSeesLast", (type(site),), {"forward": first_sees_last})
    assert measure_batch_independence(randomized).where == NORM

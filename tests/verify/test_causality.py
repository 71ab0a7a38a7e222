import pytest

from tests.mutations import faults
from v2w_convert.plan.probe import wake
from v2w_convert.verify.causality import base_mixes, repeatable, unseen_clips, unseen_future
from v2w_convert.verify.inputs import base_call, draw, uniform
from v2w_convert.verify.models import Models
from v2w_convert.verify.module import influence
from v2w_convert.world.model import World

CONV = "up_blocks.0.resnets.1.temporal_res_block.conv1"
NORM = "down_blocks.0.resnets.0.temporal_res_block.norm2"
ATTENTION = "up_blocks.1.attentions.1.temporal_transformer_blocks.0.attn1"


def test_unbroken(woken: World) -> None:
    for claim in (unseen_future(woken), unseen_clips(woken), repeatable(woken)):
        assert (claim.measured, claim.where, claim.ok) == (0.0, "", True)


@pytest.mark.parametrize("name", [CONV, NORM, ATTENTION])
def test_one_site_that_sees_the_future_is_named(woken: World, name: str) -> None:
    faults.sees_future(woken.sites[name])
    claim = unseen_future(woken)
    assert not claim.ok
    assert claim.measured is not None
    assert claim.measured > 1e-6
    assert claim.where == name


def test_an_action_that_comes_a_frame_early_is_found(woken: World) -> None:
    faults.acts_early(woken.sites["time_embedding"])
    claim = unseen_future(woken)
    assert not claim.ok
    assert claim.where == "time_embedding"


def test_a_site_that_mixes_clips_is_named(woken: World) -> None:
    faults.mixes_clips(woken.sites[CONV])
    claim = unseen_clips(woken)
    assert not claim.ok  # the second clip goes on from the end of the first
    assert "Clips" in claim.claim


def test_a_norm_over_the_batch_is_named(woken: World) -> None:
    site = woken.sites[NORM]

    forward = type(site).forward
    over_all = {"forward": lambda self, x: forward(self, x) - 1e-9 * x.mean(0)}
    site.__class__ = type("BatchNorm", (type(site),), over_all)
    assert unseen_clips(woken).where == NORM


def test_a_site_that_flickers_is_named(woken: World) -> None:
    faults.flickers(woken.sites[CONV])
    claim = repeatable(woken)
    assert not claim.ok
    assert claim.where == CONV


def test_the_control_sees_the_base_mix_and_the_world_not(models: Models) -> None:
    assert models.base is not None
    wake(models.base)
    inputs = uniform(draw(models.world, 1, 4, seed=0))
    latents = inputs["latents"]
    assert base_mixes(influence(base_call(models.base, models.world, inputs), latents, frame_dim=1)).ok
    folded = influence(lambda x: models.world(**inputs | {"latents": x}), latents, frame_dim=1)
    claim = base_mixes(folded)
    assert (claim.measured, claim.ok) == (3.0, False)

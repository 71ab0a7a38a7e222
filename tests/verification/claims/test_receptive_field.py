import torch

from tests.mutations import faults
from v2w_convert.operations.causal_attention import CausalAttentionSite
from v2w_convert.verification.claims.receptive_field import (
    measure_last_frame,
    measure_receptive_field,
    measure_sites,
    measure_sites_stored,
)
from v2w_convert.verification.engine.inputs import sites_with_past
from v2w_convert.world.model import World


def test_unbroken(randomized: World) -> None:
    claims = [measure_receptive_field(randomized), *measure_sites(randomized)]
    assert [claim.measured for claim in claims] == [0.0] * 3
    assert all(claim.ok for claim in claims)


def test_every_site_that_forgets_its_past_is_named(randomized: World) -> None:
    """Sites are called one by one on inputs of their own, so all can be broken at once."""
    seeing = sites_with_past(randomized)
    assert len(seeing) == 20
    for name in seeing:
        faults.forgets_past(randomized.sites[name])
    past, future = measure_sites(randomized)
    assert set(past.where.split(", ")) == set(seeing)
    assert future.ok
    whole = measure_receptive_field(randomized)
    assert not whole.ok
    assert whole.where == "down_blocks.0.resnets.0.temporal_res_block.conv1"  # the first of them that is run


def test_one_site_that_forgets_is_hidden_end_to_end_but_named_alone(randomized: World) -> None:
    name = "mid_block.resnets.0.temporal_res_block.conv1"
    faults.forgets_past(randomized.sites[name])
    assert measure_receptive_field(randomized).ok
    assert measure_sites(randomized)[0].where == name


def test_an_attention_that_forgets_only_the_oldest_frame_is_named(randomized: World) -> None:
    name, site = next((n, s) for n, s in randomized.sites.items() if isinstance(s, CausalAttentionSite))
    assert site.window is not None
    site.window -= 1
    assert measure_sites(randomized)[0].where == name


def test_every_single_site_that_sees_the_future_is_named(randomized: World) -> None:
    mixing = {
        n: s
        for n, s in randomized.sites.items()
        if randomized.resolved.sites[n].name not in ("action", "frame_position")
    }
    assert len(mixing) == 36
    for site in mixing.values():
        faults.sees_future(site)
    assert set(measure_sites(randomized)[1].where.split(", ")) == set(mixing)


def test_every_single_site_that_mixes_clips_is_named(randomized: World) -> None:
    seeing = sites_with_past(randomized)
    for name in seeing:
        faults.mixes_clips(randomized.sites[name])
    assert set(measure_sites(randomized)[1].where.split(", ")) == set(seeing)


def test_a_site_that_is_not_installed_does_not_see_its_past(randomized: World) -> None:
    name = "mid_block.resnets.0.temporal_res_block.conv1"
    randomized.base.get_submodule(name).__class__ = torch.nn.Conv3d
    assert measure_sites(randomized)[0].where == name


def test_an_attention_whose_last_frame_differs_from_the_bidirectional_form_is_named(
    randomized: World,
) -> None:
    name = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"
    claim = measure_last_frame(randomized)
    assert claim.ok
    assert claim.where == ""
    faults.blind_to_previous_frame(randomized.sites[name])
    claim = measure_last_frame(randomized)
    assert not claim.ok
    assert claim.where == name


def test_a_site_that_forgets_in_the_stored_precision_is_named(randomized: World) -> None:
    name = "mid_block.resnets.0.temporal_res_block.conv1"
    randomized.to(torch.bfloat16)
    assert measure_sites_stored(randomized).ok
    faults.only(faults.forgets_past, faults.in_dtype(torch.bfloat16))(randomized.sites[name])
    assert measure_sites_stored(randomized).where == name

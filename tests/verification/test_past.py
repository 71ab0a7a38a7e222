import torch

from tests.mutations import faults
from v2w_convert.operations.causal_attention import CausalAttentionSite
from v2w_convert.verification.inputs import past_seeing
from v2w_convert.verification.past import last_frames, seen_past, sites, sites_stored
from v2w_convert.world.model import World


def test_unbroken(woken: World) -> None:
    claims = [seen_past(woken), *sites(woken)]
    assert [claim.measured for claim in claims] == [0.0] * 3
    assert all(claim.ok for claim in claims)


def test_every_single_site_that_forgets_is_named(woken: World) -> None:
    """Sites are called one by one on inputs of their own, so all can be broken at once."""
    seeing = past_seeing(woken)
    assert len(seeing) == 20
    for name in seeing:
        faults.forgets_past(woken.sites[name])
    past, future = sites(woken)
    assert set(past.where.split(", ")) == set(seeing)
    assert future.ok
    whole = seen_past(woken)
    assert not whole.ok
    assert whole.where == "down_blocks.0.resnets.0.temporal_res_block.conv1"  # the first of them that is run


def test_one_forgetful_site_is_hidden_end_to_end_but_named_by_itself(woken: World) -> None:
    name = "mid_block.resnets.0.temporal_res_block.conv1"
    faults.forgets_past(woken.sites[name])
    assert seen_past(woken).ok
    assert sites(woken)[0].where == name


def test_an_attention_that_forgets_only_the_oldest_frame_is_named(woken: World) -> None:
    name, site = next((n, s) for n, s in woken.sites.items() if isinstance(s, CausalAttentionSite))
    assert site.window is not None
    site.window -= 1
    assert sites(woken)[0].where == name


def test_every_single_site_that_sees_the_future_is_named(woken: World) -> None:
    mixing = {
        n: s
        for n, s in woken.sites.items()
        if woken.resolved.sites[n].name not in ("action", "frame_position")
    }
    assert len(mixing) == 36
    for site in mixing.values():
        faults.sees_future(site)
    assert set(sites(woken)[1].where.split(", ")) == set(mixing)


def test_every_single_site_that_mixes_clips_is_named(woken: World) -> None:
    seeing = past_seeing(woken)
    for name in seeing:
        faults.mixes_clips(woken.sites[name])
    assert set(sites(woken)[1].where.split(", ")) == set(seeing)


def test_a_site_that_was_never_installed_counts_as_forgetful(woken: World) -> None:
    name = "mid_block.resnets.0.temporal_res_block.conv1"
    woken.base.get_submodule(name).__class__ = torch.nn.Conv3d
    assert sites(woken)[0].where == name


def test_an_attention_whose_last_frame_is_another_than_without_a_mask_is_named(woken: World) -> None:
    name = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"
    claim = last_frames(woken)
    assert claim.ok
    assert claim.where == ""
    faults.blind_to_last(woken.sites[name])
    claim = last_frames(woken)
    assert not claim.ok
    assert claim.where == name


def test_a_site_that_forgets_in_the_stored_precision_is_named(woken: World) -> None:
    name = "mid_block.resnets.0.temporal_res_block.conv1"
    woken.to(torch.bfloat16)
    assert sites_stored(woken).ok
    faults.only(faults.forgets_past, faults.in_dtype(torch.bfloat16))(woken.sites[name])
    assert sites_stored(woken).where == name

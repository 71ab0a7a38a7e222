"""Models that are broken only under a condition that rollouts or training meet."""

from collections.abc import Callable

import pytest
import torch

from tests.mutations import faults
from tests.mutations.faults import PassIs
from tests.tiny import tiny_world
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.sites import Site
from v2w_convert.verification.claims.causality import (
    choose_trials,
    measure_batch_independence,
    measure_causality,
)
from v2w_convert.verification.claims.receptive_field import measure_sites
from v2w_convert.verification.claims.streaming import far_ahead, measure_streaming
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.model import World

SITE = "blocks.1.attn1"


@pytest.fixture
def world() -> World:
    made = tiny_world("wan", window=4).double()
    randomize_zero_init(made.base)
    return made


def broken(world: World, fault: Callable[[Site], None], when: PassIs) -> World:
    faults.where(SITE, fault, when)(world)
    return world


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (faults.all_clean, "history"),
        (faults.largest_level, "the largest level"),
        (faults.no_actions, "no actions or conditions"),
        (faults.batch_of(8), "9 clips of 7"),
        (faults.with_offset, "9 clips of 7"),
        (faults.latents_over(100), "9 clips of 7"),
        (faults.clips_over(32), "1 clip of 48"),
        (faults.upright, "latents of 12 × 8"),
    ],
)
def test_a_leak_under_one_condition_is_found_and_the_condition_said(
    world: World, when: PassIs, said: str
) -> None:
    with exact():
        claim = measure_causality(broken(world, faults.sees_future, when))
    assert not claim.ok
    assert claim.where == SITE
    assert said in claim.how.partition("found with ")[2]


def test_a_leak_in_the_users_own_clips_alone_is_found(world: World) -> None:
    clean = torch.randn(2, 8, world.channels, 4, 4, generator=torch.Generator().manual_seed(0)) + 20
    with exact():
        broken(world, faults.sees_future, lambda seen: float(seen.latents.mean()) > 3)
        assert measure_causality(world).ok
        claim = measure_causality(world, trials=choose_trials(world, clean=clean.double()))
    assert claim.where == SITE


@pytest.mark.parametrize("when", [faults.batch_of(8), faults.all_clean, faults.all_dropped])
def test_clips_that_mix_under_one_condition_are_found(world: World, when: PassIs) -> None:
    with exact():
        assert measure_batch_independence(broken(world, faults.mixes_clips, when)).where == SITE


@pytest.mark.parametrize(
    "when",
    [faults.all_clean, faults.with_offset, faults.no_actions, faults.batch_of(8), faults.picture_over(4, 8)],
)
def test_a_site_that_forgets_its_past_under_one_condition_is_named(world: World, when: PassIs) -> None:
    with exact():
        assert measure_sites(broken(world, faults.forgets_past, when))[0].where == SITE


@pytest.mark.parametrize("fault", [faults.sees_future, faults.forgets_past])
def test_a_site_that_is_broken_for_large_activations_is_named(
    world: World, fault: Callable[[Site], None]
) -> None:
    faults.at(SITE, faults.only(fault, faults.activations_over(30)))(world)
    with exact():
        assert SITE in [claim.where for claim in measure_sites(world)]
        assert SITE in [claim.where for claim in measure_sites(world, brief=True)]


@pytest.mark.parametrize(
    "when",
    [
        faults.all_dropped,
        faults.no_actions,
        faults.far_in_the_stream(1000),
        *(
            pytest.param(when, marks=pytest.mark.slow)
            for when in (
                faults.all_clean,
                faults.largest_level,
                faults.chunks_over(16),
                faults.batch_of(8),
                faults.picture_over(4, 8),
                faults.no_conditions,
            )
        ),
    ],
)
def test_a_stream_that_is_lost_under_one_condition_is_found(world: World, when: PassIs) -> None:
    with exact():
        claims = measure_streaming(broken(world, faults.ignores_stream_state, when))
    assert SITE in [claim.where for claim in claims]


@pytest.mark.parametrize(
    ("plan", "wanted", "multiple"),
    [
        ("wan", {"window": 4}, 3),
        ("wan", {"window": 6, "frames_per_block": 2}, 2),
        ("sana-video", {}, 1),
        ("stable-video-diffusion", {"window": 4}, 3 * 32),
    ],
)
def test_a_stream_is_moved_ahead_by_whole_rings_and_periods(
    plan: str, wanted: dict[str, int], multiple: int
) -> None:
    ahead = far_ahead(tiny_world(plan, **wanted))
    assert ahead >= 1_000_000
    assert ahead % multiple == 0

from collections.abc import Callable

import pytest

from tests.mutations import faults
from v2w_convert.sites import Site
from v2w_convert.verification.claims.streaming import measure_streaming, mixed_sizes
from v2w_convert.world.model import World

CONV = "down_blocks.0.resnets.0.temporal_res_block.conv1"
ATTENTION = "up_blocks.1.attentions.1.temporal_transformer_blocks.0.attn1"
POSITION = "mid_block.attentions.0.time_proj"


def test_unbroken(randomized: World) -> None:
    for claim in measure_streaming(randomized):
        assert claim.ok
        assert claim.measured is not None
        assert 0 < claim.measured < 1e-12
        assert claim.where == ""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (CONV, faults.state_never_updated),
        (ATTENTION, faults.state_never_updated),
        (POSITION, faults.position_one_too_large_in_streams),
    ],
)
def test_a_site_that_streams_wrongly_is_named(
    randomized: World, name: str, fault: Callable[[Site], None]
) -> None:
    fault(randomized.sites[name])
    for claim in measure_streaming(randomized):
        assert not claim.ok
        assert claim.where == name


def test_an_uncommitted_pass_that_changes_the_state_is_found(randomized: World) -> None:
    faults.keeps_uncommitted_passes(randomized.sites[CONV])
    assert [claim.where for claim in measure_streaming(randomized)] == [CONV, CONV]


@pytest.mark.parametrize("window", [1, 3, 12])
def test_chunks_cover_the_clip_and_one_exceeds_the_window(window: int) -> None:
    sizes = mixed_sizes(2 * window + 4, window)
    assert sum(sizes) == 2 * window + 4
    assert max(sizes) > window
    assert len(set(sizes)) > 2 or window == 1


def test_uncommitted_passes_see_the_past_too(randomized: World) -> None:
    faults.no_past_in_uncommitted_passes(randomized.sites[ATTENTION])
    for claim in measure_streaming(randomized):
        assert claim.where == ATTENTION
        assert claim.how.endswith("broken in uncommitted passes")


def test_a_fault_after_the_ring_was_overwritten_twice_is_found(randomized: World) -> None:
    window = randomized.resolved.window
    assert window is not None
    faults.state_not_updated_after(randomized.sites[ATTENTION], 2 * (window - 1))
    assert [claim.where for claim in measure_streaming(randomized)] == [ATTENTION, ATTENTION]


def test_a_state_written_in_place_is_found(randomized: World) -> None:
    """A branch of the rollout may hold it, too."""
    faults.commits_in_place(randomized.sites[CONV])
    assert [claim.where for claim in measure_streaming(randomized)] == [CONV, CONV]


def test_a_module_that_is_no_site_is_named(randomized: World) -> None:
    name = "up_blocks.0.resnets.0.spatial_res_block.conv1"
    faults.at(name, faults.leaks_next_frame)(randomized)
    assert measure_streaming(randomized)[0].where == name


def test_a_fault_between_modules_is_named_so(randomized: World) -> None:
    faults.noise_level_of_previous_frame(randomized)
    assert measure_streaming(randomized)[0].where == "the model's own forward"

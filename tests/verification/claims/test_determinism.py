from collections.abc import Callable

import pytest
import torch

from tests.mutations import faults
from v2w_convert.sites import Site
from v2w_convert.verification.claims.determinism import measure_checkpointing, measure_determinism
from v2w_convert.world.model import World

CONV = "up_blocks.0.resnets.1.temporal_res_block.conv1"
ACTION = "time_embedding"


def test_unbroken(randomized: World) -> None:
    for claim in (
        measure_determinism(randomized),
        measure_checkpointing(randomized),
        measure_checkpointing(randomized.to(torch.float32)),
    ):
        assert (claim.measured, claim.where, claim.ok) == (0.0, "", True)
    assert not randomized.training
    assert (
        not randomized.base.gradient_checkpointing
        if hasattr(randomized.base, "gradient_checkpointing")
        else True
    )


@pytest.mark.parametrize("fault", [faults.adds_noise, faults.leaks_previous_call])
def test_a_site_whose_output_changes_is_named(randomized: World, fault: Callable[[Site], None]) -> None:
    fault(randomized.sites[CONV])
    claim = measure_determinism(randomized)
    assert not claim.ok
    assert claim.where == CONV


def test_state_kept_from_one_rollout_to_another_is_found(randomized: World) -> None:
    site = randomized.sites[CONV]
    seen: list[torch.Tensor] = []
    forward = type(site).forward

    def hidden(self: Site, x: torch.Tensor) -> torch.Tensor:
        output = forward(self, x)
        if self.past is None:
            return output
        seen.append(output.mean())
        return output + 1e-3 * seen[-2 if len(seen) > 1 else -1]

    site.__class__ = type("Hidden", (type(site),), {"forward": hidden})
    claim = measure_determinism(randomized)
    assert not claim.ok
    assert "rollouts differ" in claim.how
    assert "twice" not in claim.how
    assert claim.where == CONV


@pytest.mark.parametrize("fault", [faults.differs_in_training, faults.loses_context_after_call])
def test_a_site_that_differs_with_checkpointing_is_found(
    randomized: World, fault: Callable[[Site], None]
) -> None:
    fault(randomized.sites[CONV])
    assert measure_determinism(randomized).ok
    claim = measure_checkpointing(randomized)
    assert not claim.ok
    assert claim.where in (CONV, "")
    assert not randomized.training

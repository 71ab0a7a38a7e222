from collections.abc import Callable

import pytest
import torch

from tests.mutations import faults
from v2w_convert.sites import Site
from v2w_convert.verification.determinism import checkpointed, repeatable
from v2w_convert.world.model import World

CONV = "up_blocks.0.resnets.1.temporal_res_block.conv1"
ACTION = "time_embedding"


def test_unbroken(woken: World) -> None:
    for claim in (repeatable(woken), checkpointed(woken), checkpointed(woken.to(torch.float32))):
        assert (claim.measured, claim.where, claim.ok) == (0.0, "", True)
    assert not woken.training
    assert not woken.base.gradient_checkpointing if hasattr(woken.base, "gradient_checkpointing") else True


@pytest.mark.parametrize("fault", [faults.flickers, faults.remembers_inputs])
def test_a_site_that_gives_something_else_is_named(woken: World, fault: Callable[[Site], None]) -> None:
    fault(woken.sites[CONV])
    claim = repeatable(woken)
    assert not claim.ok
    assert claim.where == CONV


def test_what_is_kept_from_one_rollout_to_another_is_found(woken: World) -> None:
    site = woken.sites[CONV]
    seen: list[torch.Tensor] = []
    forward = type(site).forward

    def hidden(self: Site, x: torch.Tensor) -> torch.Tensor:
        output = forward(self, x)
        if self.past is None:
            return output
        seen.append(output.mean())
        return output + 1e-3 * seen[-2 if len(seen) > 1 else -1]

    site.__class__ = type("Hidden", (type(site),), {"forward": hidden})
    claim = repeatable(woken)
    assert not claim.ok
    assert "rollouts differ" in claim.how
    assert "twice" not in claim.how
    assert claim.where == CONV


@pytest.mark.parametrize("fault", [faults.differs_in_training, faults.loses_its_pass])
def test_a_site_that_is_another_under_checkpointing_is_found(
    woken: World, fault: Callable[[Site], None]
) -> None:
    fault(woken.sites[CONV])
    assert repeatable(woken).ok
    claim = checkpointed(woken)
    assert not claim.ok
    assert claim.where in (CONV, "")
    assert not woken.training

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from v2w_convert.operations.action import ActionSite
from v2w_convert.verify.actions import effects, unheeded
from v2w_convert.verify.models import Models
from v2w_convert.world.model import World


def broken(world: World, change: Callable[[ActionSite], None]) -> dict[str, str]:
    """The claims that fail when `change` is made to the pass before the action site sees it."""
    site = world.base.get_submodule("time_embedding")
    assert isinstance(site, ActionSite)
    forward = type(site).forward

    def changed(self: ActionSite, *args: Any) -> Tensor:
        change(self)
        return forward(self, *args)

    site.__class__ = type("Broken", (type(site),), {"forward": changed})
    return {claim.claim: claim.where for claim in effects(world, "zero layers woken") if not claim.ok}


def test_a_new_world_heeds_no_action_and_a_woken_one_does(models: Models, woken: World) -> None:
    assert unheeded(models.world).ok
    claim = unheeded(woken)
    assert not claim.ok
    assert claim.where == "time_embedding"
    assert all(claim.ok for claim in effects(woken, "zero layers woken"))


def test_a_new_world_has_no_effects(models: Models) -> None:
    found = {claim.claim: claim for claim in effects(models.world, "real weights")}
    deaf = found["An action changes the frame that it led to"]
    assert (deaf.measured, deaf.ok) == (6.0, False)
    assert deaf.where.startswith("time_embedding: frame 1")
    assert not found["No action is another thing than the zero action"].ok


def test_actions_a_frame_early(woken: World) -> None:
    def early(site: ActionSite) -> None:
        site.current.actions = site.current.actions.roll(-1, 1)

    assert broken(woken, early)["An action changes no frame before it"] == "time_embedding"


def test_actions_a_frame_late(woken: World) -> None:
    def late(site: ActionSite) -> None:
        site.current.actions = site.current.actions.roll(1, 1)

    assert "An action changes the frame that it led to" in broken(woken, late)


def test_a_first_action_that_is_looked_at(woken: World) -> None:
    site = woken.base.get_submodule("time_embedding")
    positions = type(site).positions
    late = type("Late", (type(site),), {"positions": lambda self: positions(self) + 1})
    site.__class__ = late
    found = {claim.claim: claim for claim in effects(woken, "zero layers woken")}
    assert found["The first frame's action is never looked at"].where == "time_embedding"


@pytest.mark.parametrize("name", ["none"])
def test_no_action_that_is_the_zero_action(woken: World, name: str) -> None:
    embedding = woken.base.get_submodule("time_embedding.v2w_action")
    getattr(embedding, name).copy_(embedding.first(torch.zeros(woken.action_dim, dtype=torch.float64)))
    found = {claim.claim for claim in effects(woken, "zero layers woken") if not claim.ok}
    assert found == {"No action is another thing than the zero action"}

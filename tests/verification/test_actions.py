import torch

from tests.mutations import faults
from v2w_convert.verification.actions import effects, unheeded
from v2w_convert.verification.models import Models
from v2w_convert.world.model import World

SITE = "time_embedding"


def failing(world: World) -> dict[str, str]:
    return {claim.claim: claim.where for claim in effects(world, "zero layers woken") if not claim.ok}


def test_a_new_world_heeds_no_action_and_a_woken_one_does(models: Models, woken: World) -> None:
    assert unheeded(models.world).ok
    claim = unheeded(woken)
    assert not claim.ok
    assert claim.where == SITE
    assert failing(woken) == {}


def test_a_new_world_has_no_effects(models: Models) -> None:
    found = {claim.claim: claim for claim in effects(models.world, "real weights")}
    deaf = found["An action changes the frame that it led to"]
    assert (deaf.measured, deaf.ok) == (6.0, False)
    assert deaf.where == SITE
    assert "broken at frame 1, frame 2, " in deaf.how
    assert not found["No action is another thing than the zero action"].ok


def test_actions_a_frame_early(woken: World) -> None:
    faults.acts_early(woken.sites[SITE])
    assert failing(woken)["An action changes no frame before it"] == SITE


def test_actions_a_frame_late(woken: World) -> None:
    faults.acts_late(woken.sites[SITE])
    assert "An action changes the frame that it led to" in failing(woken)


def test_a_first_action_that_is_looked_at(woken: World) -> None:
    faults.one_late(woken.sites[SITE])
    assert failing(woken) == {"The first frame's action is never looked at": SITE}


def test_no_action_that_is_the_zero_action(woken: World) -> None:
    zero = torch.zeros(woken.action_dim, dtype=torch.float64)
    weights = dict(woken.base.named_parameters())
    first = {name: weights[f"{SITE}.v2w_action.first.{name}"] for name in ("weight", "bias")}
    weights[f"{SITE}.v2w_action.none"].copy_(torch.nn.functional.linear(zero, **first))
    assert {*failing(woken)} == {"No action is another thing than the zero action"}


def test_actions_that_a_rollout_forgets(woken: World) -> None:
    faults.ignores_actions_in_streams(woken.sites[SITE])
    assert failing(woken) == {"In a rollout, an action moves the very next frame": SITE}


def test_a_dropped_action_that_is_heeded(woken: World) -> None:
    faults.never_drops(woken.sites[SITE])
    assert failing(woken) == {"A dropped action is no action": SITE}


def test_an_output_that_is_no_number_is_no_output_that_stays_the_same(woken: World) -> None:
    woken.register_forward_hook(lambda world, given, output: output * torch.nan)
    found = {claim.name: claim for claim in effects(woken, "woken")}
    assert not found["action-not-before"].ok
    assert not found["first-action-unread"].ok

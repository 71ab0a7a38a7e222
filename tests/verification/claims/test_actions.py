import torch

from tests.mutations import faults
from v2w_convert.verification.claims.actions import measure_effects, measure_no_effect
from v2w_convert.verification.engine.models import Models
from v2w_convert.world.model import World

SITE = "time_embedding"


def failing(world: World) -> dict[str, str]:
    return {
        claim.sentence: claim.where for claim in measure_effects(world, "zero layers woken") if not claim.ok
    }


def test_a_new_world_heeds_no_action_and_a_woken_one_does(models: Models, woken: World) -> None:
    assert measure_no_effect(models.world).ok
    claim = measure_no_effect(woken)
    assert not claim.ok
    assert claim.where == SITE
    assert failing(woken) == {}


def test_a_new_world_has_no_effects(models: Models) -> None:
    found = {claim.sentence: claim for claim in measure_effects(models.world, "real weights")}
    deaf = found["An action changes the frame that it leads to"]
    assert (deaf.measured, deaf.ok) == (6.0, False)
    assert deaf.where == SITE
    assert "broken at frame 1, frame 2, " in deaf.how
    assert not found["The no-action embedding differs from a zero action"].ok


def test_actions_a_frame_early(woken: World) -> None:
    faults.action_one_frame_early(woken.sites[SITE])
    assert failing(woken)["An action changes no frame before the one that it leads to"] == SITE


def test_actions_a_frame_late(woken: World) -> None:
    faults.action_one_frame_late(woken.sites[SITE])
    assert "An action changes the frame that it leads to" in failing(woken)


def test_a_first_action_that_is_looked_at(woken: World) -> None:
    faults.position_one_too_large(woken.sites[SITE])
    assert failing(woken) == {"The first frame's action has no effect": SITE}


def test_no_action_that_is_the_zero_action(woken: World) -> None:
    zero = torch.zeros(woken.action_dim, dtype=torch.float64)
    weights = dict(woken.base.named_parameters())
    first = {name: weights[f"{SITE}.v2w_action.first.{name}"] for name in ("weight", "bias")}
    weights[f"{SITE}.v2w_action.none"].copy_(torch.nn.functional.linear(zero, **first))
    assert {*failing(woken)} == {"The no-action embedding differs from a zero action"}


def test_actions_that_a_rollout_forgets(woken: World) -> None:
    faults.ignores_actions_in_streams(woken.sites[SITE])
    assert failing(woken) == {"In a rollout, an action changes the very next frame": SITE}


def test_a_dropped_action_that_is_heeded(woken: World) -> None:
    faults.never_drops_actions(woken.sites[SITE])
    assert failing(woken) == {"Dropping an action equals passing none": SITE}


def test_an_output_that_is_no_number_is_no_output_that_stays_the_same(woken: World) -> None:
    woken.register_forward_hook(lambda world, given, output: output * torch.nan)
    found = {claim.id: claim for claim in measure_effects(woken, "woken")}
    assert not found["action-causal"].ok
    assert not found["first-action-ignored"].ok

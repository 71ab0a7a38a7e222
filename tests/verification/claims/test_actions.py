import torch

from tests.mutations import faults
from v2w_convert.verification.claims.actions import measure_effects, measure_no_effect
from v2w_convert.verification.engine.models import Models
from v2w_convert.world.model import World

SITE = "time_embedding"


def failing(world: World) -> dict[str, str]:
    return {
        claim.sentence: claim.where
        for claim in measure_effects(world, "zero-initialised layers randomised")
        if not claim.ok
    }


def test_actions_have_no_effect_before_training_and_have_one_with_randomised_layers(
    models: Models, randomized: World
) -> None:
    assert measure_no_effect(models.world).ok
    claim = measure_no_effect(randomized)
    assert not claim.ok
    assert claim.where == SITE
    assert failing(randomized) == {}


def test_a_new_world_has_no_effects(models: Models) -> None:
    found = {claim.sentence: claim for claim in measure_effects(models.world, "real weights")}
    deaf = found["An action changes the frame that it leads to"]
    assert (deaf.measured, deaf.ok) == (6.0, False)
    assert deaf.where == SITE
    assert "broken at frame 1, frame 2, " in deaf.how
    assert not found["The no-action embedding differs from a zero action"].ok


def test_actions_one_frame_early(randomized: World) -> None:
    faults.action_one_frame_early(randomized.sites[SITE])
    assert failing(randomized)["An action changes no frame before the one that it leads to"] == SITE


def test_actions_one_frame_late(randomized: World) -> None:
    faults.action_one_frame_late(randomized.sites[SITE])
    assert "An action changes the frame that it leads to" in failing(randomized)


def test_a_first_action_with_an_effect(randomized: World) -> None:
    faults.position_one_too_large(randomized.sites[SITE])
    assert failing(randomized) == {"The first frame's action has no effect": SITE}


def test_a_no_action_embedding_that_equals_a_zero_action(randomized: World) -> None:
    zero = torch.zeros(randomized.action_dim, dtype=torch.float64)
    weights = dict(randomized.base.named_parameters())
    first = {name: weights[f"{SITE}.v2w_action.first.{name}"] for name in ("weight", "bias")}
    weights[f"{SITE}.v2w_action.none"].copy_(torch.nn.functional.linear(zero, **first))
    assert {*failing(randomized)} == {"The no-action embedding differs from a zero action"}


def test_actions_without_effect_in_a_rollout(randomized: World) -> None:
    faults.ignores_actions_in_streams(randomized.sites[SITE])
    assert failing(randomized) == {"In a rollout, an action changes the very next frame": SITE}


def test_a_dropped_action_that_is_not_dropped(randomized: World) -> None:
    faults.never_drops_actions(randomized.sites[SITE])
    assert failing(randomized) == {"Dropping an action equals passing none": SITE}


def test_an_output_of_nan_counts_as_a_change(randomized: World) -> None:
    randomized.register_forward_hook(lambda world, given, output: output * torch.nan)
    found = {claim.id: claim for claim in measure_effects(randomized, "randomised")}
    assert not found["action-causal"].ok
    assert not found["first-action-ignored"].ok

import pytest

from tests.mutations import faults
from tests.tiny import tiny_world
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.verification.claims.conditions import heeded_conditions, measure_conditions
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.model import World


def ready(name: str) -> World:
    world = tiny_world(name).double()
    randomize_zero_init(world.base)
    return world


@pytest.mark.parametrize("name", ["wan", "hunyuan-video", "cogvideox", "mochi"])
def test_every_condition_of_an_unbroken_model_is_heeded(name: str) -> None:
    with exact():
        world = ready(name)
        for brief in (False, True):
            (claim,) = measure_conditions(world, brief)
            assert (claim.measured, claim.where, claim.ok) == (0.0, "", True)
        assert all(name in claim.how for name in heeded_conditions(world))


@pytest.mark.parametrize(
    ("plan", "condition", "when", "said"),
    [
        ("wan", "text", faults.always, "text without effect"),
        (
            "wan",
            "text",
            faults.given_once("text"),
            "text given once for a clip, text given once for a clip, streamed",
        ),
        ("wan", "text", faults.in_stream, "text given once for a clip, streamed, text streamed"),
        (
            "hunyuan-video",
            "text_mask",
            faults.both(faults.in_stream, faults.given_once("text_mask")),
            "text_mask given once for a clip, streamed",
        ),
    ],
)
def test_a_condition_that_is_unheeded_in_one_form_is_named(
    plan: str, condition: str, when: faults.PassIs, said: str
) -> None:
    with exact():
        world = ready(plan)
        faults.condition_unheeded(condition, when)(world)
        (claim,) = measure_conditions(world)
    assert not claim.ok
    assert claim.where == "the model's own forward"
    assert said in claim.how

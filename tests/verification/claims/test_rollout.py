"""The loop of a rollout is measured by another one; what is wrong with it fails the claim that is about it."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch

from tests.mutations.models import MODELS
from tests.mutations.mutation import Mutation
from tests.mutations.rollouts import PAIR, changed_rollouts
from tests.tiny import ACTIONS, tiny_model, tiny_plan, tiny_world
from tests.world.test_experts import tiny_experts
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims.rollout import ALLOWED, SPECS, measure_rollout
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.experts import AnyWorld
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Stream

QUICK = (("wan", False), (PAIR, True), ("wan, blocks of 2", True))
FAULTS = {  # `make mutations` has all
    "commits without the action",
    "solver of the block before",
    "levels of a clip of another size",
    "unasked taken for no context noise",
    "generated frames not noised",
    "guidance below 1 ignored",
    "guidance drops all actions",
    "a branch takes the seed 0 for none",
}


def world_of(name: str) -> AnyWorld:
    if name == PAIR:
        return tiny_experts().double()
    model = MODELS[name]
    with exact():  # tables are made in float64, as by `verify`
        world = tiny_world(model.plan, model.config or None, **model.wanted).double().eval()
    randomize_zero_init(world.base)
    return world


def measured(world: AnyWorld, brief: bool = False) -> dict[str, Claim]:
    with torch.no_grad(), exact():
        return {claim.id: claim for claim in measure_rollout(world, brief)}


@pytest.mark.parametrize(
    ("name", "brief"),
    [
        pytest.param(name, brief, marks=() if (name, brief) in QUICK else pytest.mark.slow)
        for name in ("wan", "ltx", PAIR, "wan, blocks of 2", "sana")
        for brief in (False, True)
    ],
)
def test_the_claims_hold(name: str, brief: bool) -> None:
    claims = measured(world_of(name), brief)
    assert [claim.spec for claim in claims.values()] == list(SPECS)
    assert all(claim.ok for claim in claims.values()), claims
    assert all(claim.measured is not None and claim.measured < ALLOWED / 1000 for claim in claims.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutation", [m for m in changed_rollouts() if m.kind in FAULTS and m.model != PAIR], ids=str
)
def test_a_fault_of_the_loop_fails_its_claim(mutation: Mutation) -> None:
    """A broken branch says nothing against the loop; neither does guidance, where none is asked for."""
    world = world_of(mutation.model)
    with ExitStack() as changed:
        for of, methods in (mutation.program or {}).items():
            changed.enter_context(patch.multiple(of, **methods))
        claims = measured(world)
    assert not claims[mutation.claim].ok
    assert claims["rollout-equal"].ok == (mutation.claim != "rollout-equal")


def test_a_branch_that_is_broken_is_named_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "branch", lambda self, seed=None: self)
    claims = measured(world_of("wan"))
    assert {name for name, claim in claims.items() if not claim.ok} == {"rollout-branch"}
    assert "broken with 2 steps with guidance 2.5 and context noise" in claims["rollout-branch"].how


def without_window() -> World:
    plan = tiny_plan("wan")
    operations = [
        operation.model_copy(update={"window": None}) if hasattr(operation, "window") else operation
        for operation in plan.operations
    ]
    plan = plan.model_copy(update={"operations": operations})
    resolved, model = resolve(plan, {**plan.tiny, "_class_name": plan.base}), tiny_model("wan")
    apply_surgery(resolved, model, ACTIONS, seed=0)
    world = World(model, resolved, ACTIONS).double().eval()
    assert world.resolved.window is None
    randomize_zero_init(world.base)
    return world


@pytest.mark.parametrize("frames", [0, -2, 2], ids=["right", "too short", "too long"])
def test_a_window_that_is_not_the_asked_one_shows(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the plan has none: a stream that forgets too early, or keeps more than it was asked to."""
    begin = World.stream
    monkeypatch.setattr(
        World,
        "stream",
        lambda self, *size, window, **options: begin(self, *size, window=window + frames, **options),
    )
    assert measured(without_window(), brief=True)["rollout-equal"].ok == (frames == 0)

"""Some broken models, which verify must catch, and an unbroken one; `make mutations` runs one of every kind."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.faults import broken
from tests.mutations.models import MODELS
from tests.mutations.mutation import Mutation
from tests.mutations.run import in_modes, judge
from tests.mutations.suite import each_claim_once, each_kind_once, model_of, suite
from v2w_convert.verification.claims import SPECS
from v2w_convert.world.model import World

SUITE = suite()
SAMPLE = each_claim_once(SUITE)[::11]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutations")


@pytest.mark.parametrize("mutation", SAMPLE, ids=str)
def test_a_broken_model_is_caught_by_the_expected_claim_which_names_the_broken_module(
    mutation: Mutation, made: Path
) -> None:
    folder = made / mutation.model
    if not folder.exists():
        model_of(mutation).make(folder)
    verdict = judge(mutation, folder)
    assert verdict.caught, verdict.by
    assert verdict.right, verdict.named


def test_the_suite_has_hundreds_of_different_mutations() -> None:
    assert len(SUITE) > 300
    assert max(Counter(map(str, SUITE)).values()) == 1
    assert {mutation.claim for mutation in SUITE} - {""} < SPECS.keys()
    assert {mutation.model for mutation in SUITE} > MODELS.keys()


def test_each_kind_once_leaves_out_no_kind_and_no_model() -> None:
    once = each_kind_once(SUITE)
    assert {mutation.kind for mutation in once} == {mutation.kind for mutation in SUITE}
    assert {mutation.model for mutation in once if mutation.claim} >= MODELS.keys()
    assert {mutation.model for mutation in once if not mutation.claim} == MODELS.keys()
    assert max(Counter(mutation.kind for mutation in once if mutation.claim).values()) == 1


def test_modes() -> None:
    hidden = [mutation for mutation in SUITE if not mutation.brief]
    assert 0 < len(hidden) < len(SUITE) / 4
    assert in_modes(SUITE, "normal") == [(mutation, False) for mutation in SUITE]
    assert [mutation for mutation, _ in in_modes(SUITE, "brief")] == [m for m in SUITE if m.brief]
    assert len(in_modes(SUITE, "both")) == 2 * len(SUITE) - len(hidden)
    turns = in_modes(SUITE, "turns")
    assert [mutation for mutation, _ in turns] == SUITE
    assert not any(brief for mutation, brief in turns if not mutation.brief)
    assert 0.4 < sum(brief for _, brief in turns) / len(turns) <= 0.5


def test_worlds_are_whole_again_after_a_fault() -> None:
    made = World.__init__
    with pytest.raises(ZeroDivisionError), broken(lambda world: None):
        assert World.__init__ is not made
        raise ZeroDivisionError
    assert World.__init__ is made

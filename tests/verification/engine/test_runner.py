"""The runner with checks that measure nothing: what is run, in which phase, and what becomes of a check that fails."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from v2w_convert.progress import ProgressEvent
from v2w_convert.verification.claim import BEFORE_FINETUNING, Claim, ClaimSpec
from v2w_convert.verification.engine.budget import Budget, Estimate, OutOfTime
from v2w_convert.verification.engine.check import NEEDS_BASE, Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import Cost, Phase
from v2w_convert.verification.engine.runner import Runner

NEW = ClaimSpec("new-claim", "causality", "Something holds")
FIGURE = ClaimSpec("new-figure", "distance", "How much", figure=True)
PHASE = Phase("a phase")


def context(**fields: Any) -> VerifyContext:
    """A context without files or models."""
    manifest = SimpleNamespace(stage="converted", finetuning=None)
    values = {"origin": None, "manifest": manifest, "budget": Budget(None)} | fields
    nothing = dict.fromkeys(("converted", "source", "resolved"))
    return VerifyContext(**cast(Any, nothing | values))


def test_a_new_claim_is_one_check() -> None:
    """All that `claims/` needs for a new claim: its specification, a function, and its place among the checks."""
    check = Check("something new", (NEW,), PHASE, lambda c: [NEW.result(0.5, allowed=1.0, how="by hand")])
    (claim,) = Runner([check], context()).run_phase(PHASE)
    assert claim.ok
    assert (claim.id, claim.sentence, claim.how) == ("new-claim", "Something holds", "by hand")


def test_claims_about_a_large_model_say_what_was_not_tried() -> None:
    check = Check(
        "brief", (NEW,), PHASE, lambda c: [NEW.result(0.0, how="by hand")], not_if_large="long clips"
    )
    hows = [Runner([check], context(large=large)).run_phase(PHASE)[0].how for large in (False, True)]
    assert hows == ["by hand", "by hand; not tried on so large a model: long clips"]


def test_claims_that_do_not_apply_say_why() -> None:
    def never(c: VerifyContext) -> list[Claim]:
        raise AssertionError

    with_base = ClaimSpec("a", "identity", "A", needs_base=True)
    untrained = ClaimSpec("b", "identity", "B", stages=BEFORE_FINETUNING)
    finetuned = context(manifest=SimpleNamespace(stage="finetuned", finetuning={"steps": 1}))
    checks = [Check(spec.id, (spec,), PHASE, never) for spec in (with_base, untrained)]
    claims = Runner(checks, finetuned).run_phase(PHASE)
    assert [claim.how for claim in claims] == [
        f"not measured: {NEEDS_BASE}",
        "not measured: finetuning has changed the weights",
    ]
    assert (
        Runner([Check("no", (NEW,), PHASE, never, applies=lambda c: False)], context()).run_phase(PHASE) == []
    )


def test_a_check_that_raises_fails_its_claims_and_the_next_one_runs() -> None:
    def broken(c: VerifyContext) -> list[Claim]:
        raise KeyError("a name")

    checks = [
        Check("broken", (NEW, FIGURE), PHASE, broken),
        Check("whole", (NEW,), PHASE, lambda c: [NEW.result(0.0, how="")]),
    ]
    failed, figure, whole = Runner(checks, context()).run_phase(PHASE)
    assert (failed.status, figure.status, whole.status) == ("fails", "not measured", "holds")
    assert "KeyError: 'a name'" in failed.how
    recording = Check("records", (), PHASE, broken)
    with pytest.raises(KeyError):  # without a claim there is nothing that could report it
        Runner([recording], context()).run_phase(PHASE)


def test_phases_begin_once_and_after_those_that_they_need() -> None:
    begun: list[str] = []
    first = Phase("first", lambda c: begun.append("first"))
    second = Phase("second", lambda c: begun.append("second"), after=first)
    unused = Phase("unused", lambda c: begun.append("unused"))
    checks = [Check(str(n), (), second, lambda c: []) for n in range(2)]
    runner = Runner(checks, context())
    for phase in (unused, first, second):
        runner.run_phase(phase)
    assert begun == ["first", "second"]


def test_a_used_up_budget_leaves_claims_unmeasured_and_opens_no_model() -> None:
    def opens(c: VerifyContext) -> None:
        raise AssertionError

    def out_of_time(c: VerifyContext) -> list[Claim]:
        raise OutOfTime

    phase, free = Phase("with a model", opens), Phase("free", budgeted=False)
    checks = [Check("a", (NEW,), phase, lambda c: []), Check("b", (FIGURE,), free, out_of_time)]
    runner = Runner(checks, context(budget=Budget(0)))
    claims = [*runner.run_phase(phase), *runner.run_phase(free)]
    assert [claim.how for claim in claims] == ["not measured: the budget of 0 minutes was used up"] * 2
    assert runner.unmeasured == ["new-claim", "new-figure"]


@pytest.mark.parametrize(("exact", "one_pass"), [(True, 1), (False, 0.5)])
def test_time_that_is_left_counts_passes_and_reads_of_checks_and_phases(exact: bool, one_pass: float) -> None:
    """A pass of a phase that does not compute in float64 takes half as long."""
    events: list[ProgressEvent] = []
    phase = Phase("costly", exact=exact, cost=Cost(reads=2))
    checks = [
        Check("a", (), phase, lambda c: [], Cost(passes=1)),
        Check("b", (), phase, lambda c: [], lambda c: Cost(passes=3, reads=1)),
    ]
    runner = Runner(checks, context(), events.append)
    runner.estimate = Estimate(10.0, 1.0, 0.0, 0.0, 1.0, 0.0, "")
    runner.run_phase(phase)
    runner.finish()
    assert [(event.done, event.total, event.detail, event.seconds_left) for event in events] == [
        (0, 2, "a", 4 * one_pass + 10 + 20),
        (1, 2, "b", 3 * one_pass + 10),
        (2, 2, "", 0),
    ]

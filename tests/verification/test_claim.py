import json
import math
import re

import pytest

from v2w_convert.verification.claim import ALL_STAGES, Claim, join_names, nan_max
from v2w_convert.verification.claims import CHECKS, MODULES, SPECS
from v2w_convert.verification.engine.phases import PHASES
from v2w_convert.verification.report.wording import TOPICS
from v2w_convert.verification.result import VerifyReport

FILES, DISTANCE, CAUSAL = (SPECS[id] for id in ("files-match-manifest", "distance", "causal"))


def test_a_claim_holds_up_to_what_is_allowed() -> None:
    assert FILES.result(1.0, allowed=1.0, how="").ok
    assert not FILES.result(1.1, allowed=1.0, how="").ok
    assert not FILES.result(math.nan, allowed=1.0, how="").ok
    assert not FILES.result(math.inf, allowed=1.0, how="").ok


def test_a_result_may_have_a_more_exact_sentence() -> None:
    assert CAUSAL.result(0.0, how="").sentence == "No frame sees a later one, in float64"
    assert CAUSAL.result(0.0, how="", sentence="No block").sentence == "No block"


def test_what_is_not_measured_holds_and_says_why() -> None:
    claim = FILES.not_measured("it needs the base")
    assert claim.ok
    assert claim.as_json() == {
        "id": "files-match-manifest",
        "topic": "equivalence",
        "sentence": FILES.sentence,
        "status": "not measured",
        "ok": True,
        "core": True,
        "missing": False,
        "measured": None,
        "allowed": None,
        "where": "",
        "how": "not measured: it needs the base",
        "fix": "",
    }


def test_what_there_was_no_time_for_is_missing_if_it_is_of_the_core() -> None:
    core, other = (SPECS[name].out_of_time("no time") for name in ("causal", "noise-falls"))
    assert (core.missing, other.missing) == (True, False)
    assert core.ok
    held, failed = CAUSAL.result(0.0, how=""), CAUSAL.result(1.0, how="")
    given = ([held, other], [held, FILES.not_measured("it needs the base")], [held, core], [failed, core])
    assert [VerifyReport(claims).exit_code for claims in given] == [0, 0, 3, 1]
    assert [VerifyReport(claims).ok for claims in given] == [True, True, False, False]
    assert VerifyReport([core, core.of_expert("low")]).missing == ["causal"]


def test_a_figure_neither_holds_nor_fails_and_every_other_claim_has_a_limit() -> None:
    claim = DISTANCE.result(3.0, where="a", how="how")
    assert claim.ok
    assert claim.status == "figure"
    assert (claim.as_json()["measured"], claim.as_json()["allowed"]) == (3.0, None)
    with pytest.raises(AssertionError):
        Claim(FILES, 3.0, None, "", "")
    with pytest.raises(AssertionError):
        Claim(DISTANCE, 3.0, 4.0, "", "")


def test_counted_claims_count_each_name_once() -> None:
    claim = FILES.count(["a", "b", "a"], "how")
    assert (claim.measured, claim.where, claim.ok) == (2.0, "a, b", False)
    assert FILES.count([], "how").ok


def test_claims_about_frames_blame_a_module_only_where_they_fail() -> None:
    assert FILES.count_frames([], "site", "how") == Claim(FILES, 0.0, 0.0, "", "how")
    assert FILES.count_frames(["frame 1"], "site", "how") == Claim(
        FILES, 1.0, 0.0, "site", "how; broken at frame 1"
    )


def test_long_lists_are_cut_and_say_so() -> None:
    assert join_names("abcde", limit=3) == "a, b, c and 2 more"
    assert join_names("abc", limit=3) == "a, b, c"


def test_one_failing_claim_fails_the_report_even_where_json_has_no_number() -> None:
    report = VerifyReport(
        [FILES.count([], ""), FILES.result(math.inf, where="here", how="", sentence="Fails")]
    )
    assert not report.ok
    data = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert data["ok"] is False
    assert [(c["status"], c["ok"], c["measured"]) for c in data["claims"]] == [
        ("holds", True, 0.0),
        ("fails", False, None),
    ]


def test_nan_does_not_hide_behind_a_number() -> None:
    assert math.isnan(nan_max([0.0, math.nan, 1.0]))
    assert (nan_max([]), nan_max([0.0, 2.0])) == (0.0, 2.0)


def test_every_claim_is_registered_once() -> None:
    """One specification for each id; the checks of one claim exclude each other by `applies`, never by chance."""
    specs = {id(spec): spec for check in CHECKS for spec in check.specs}
    assert sorted(spec.id for spec in specs.values()) == sorted(SPECS)
    for name, spec in SPECS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert spec.sentence and not spec.sentence.endswith(".")
        assert set(spec.stages) <= set(ALL_STAGES)
    for module in MODULES:
        assert module.__doc__
    assert {check.phase.name for check in CHECKS} == {phase.name for phase in PHASES}


def test_claims_of_one_check_apply_together() -> None:
    """`Check.why_not` speaks for all of its claims."""
    for check in CHECKS:
        assert len({(spec.stages, spec.needs_base) for spec in check.specs}) <= 1, check.label


def test_every_topic_has_words() -> None:
    assert {spec.topic for spec in SPECS.values()} == TOPICS.keys()

import json
import math

import pytest

from v2w_convert.verification.catalogue import CATALOGUE
from v2w_convert.verification.claims import (
    Claim,
    VerifyReport,
    counted,
    counted_frames,
    figure,
    listed,
    nan_max,
    not_measured,
)


def test_a_claim_holds_up_to_what_is_allowed() -> None:
    assert Claim("files", 1.0, 1.0, "", "").ok
    assert not Claim("files", 1.1, 1.0, "", "").ok
    assert not Claim("files", math.nan, 1.0, "", "").ok
    assert not Claim("files", math.inf, 1.0, "", "").ok


def test_a_model_may_have_a_sentence_of_its_own() -> None:
    assert Claim("future-unseen", 0.0, 0.0, "", "").claim == "No frame sees a later one, in float64"
    assert Claim("future-unseen", 0.0, 0.0, "", "", claim="No block").claim == "No block"
    with pytest.raises(KeyError):
        Claim("no such claim", 0.0, 0.0, "", "")


def test_what_is_not_measured_holds_and_says_why() -> None:
    claim = not_measured("files", "it needs the base")
    assert claim.ok
    assert claim.as_json() == {
        "name": "files",
        "claim": CATALOGUE["files"].sentence,
        "ok": True,
        "measured": None,
        "allowed": None,
        "where": "",
        "how": "not measured: it needs the base",
        "mend": "",
    }


def test_a_figure_neither_holds_nor_fails_and_nothing_else_goes_without_a_limit() -> None:
    claim = figure("distance", 3.0, "a", "how")
    assert claim.ok
    assert (claim.as_json()["measured"], claim.as_json()["allowed"]) == (3.0, None)
    with pytest.raises(AssertionError):
        Claim("files", 3.0, None, "", "")
    with pytest.raises(AssertionError):
        Claim("distance", 3.0, 4.0, "", "")


def test_counted_claims_count_each_name_once() -> None:
    claim = counted("files", ["a", "b", "a"], "how")
    assert (claim.measured, claim.where, claim.ok) == (2.0, "a, b", False)
    assert counted("files", [], "how").ok


def test_claims_about_frames_blame_a_module_only_where_they_fail() -> None:
    assert counted_frames("files", [], "site", "how") == Claim("files", 0.0, 0.0, "", "how")
    assert counted_frames("files", ["frame 1"], "site", "how") == Claim(
        "files", 1.0, 0.0, "site", "how; broken at frame 1"
    )


def test_long_lists_are_cut_and_say_so() -> None:
    assert listed("abcde", most=3) == "a, b, c and 2 more"
    assert listed("abc", most=3) == "a, b, c"


def test_one_failing_claim_fails_the_report_even_where_json_has_no_number() -> None:
    report = VerifyReport(
        [counted("files", [], ""), Claim("files", math.inf, 0.0, "here", "", claim="Fails")]
    )
    assert not report.ok
    data = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert data["ok"] is False
    assert [(c["ok"], c["measured"]) for c in data["claims"]] == [(True, 0.0), (False, None)]


def test_what_is_no_number_does_not_hide_behind_one() -> None:
    assert math.isnan(nan_max([0.0, math.nan, 1.0]))
    assert (nan_max([]), nan_max([0.0, 2.0])) == (0.0, 2.0)

"""What is said of broken and foreign downloads is what the docs say, word for word; nothing is written."""

from pathlib import Path

import pytest

from tests.checkpoint.downloads import CASES, END, PAGE, START, Case, block, made, said

PAGE_TEXT = PAGE.read_text("utf-8")


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_the_page_says_what_is_said(case: Case) -> None:
    with made(case) as base:
        lines = said("convert", base, *case.more)
        assert block(case, base, lines) in PAGE_TEXT, "python -m tests.checkpoint.downloads"
        assert Path("out").exists() == case.converts
        assert not list(Path().glob(".out*"))
        if not case.converts:
            assert len(lines) == 1
            assert said("inspect", base, *case.more) == lines


def test_the_page_has_these_cases_only() -> None:
    shown = PAGE_TEXT[PAGE_TEXT.index(START) : PAGE_TEXT.index(END)]
    assert sorted(line[4:] for line in shown.splitlines() if line.startswith("### ")) == sorted(
        case.title for case in CASES
    )
    assert f"{sum(not case.converts for case in CASES)} downloads that are refused" in shown

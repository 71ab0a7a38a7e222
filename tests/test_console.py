"""What a command says on the way where nobody sees a bar, such as in a cluster's log."""

import pytest

from v2w_convert import console
from v2w_convert.progress import ProgressEvent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console, "LOG_EVERY", 60)
    monkeypatch.setattr(console, "SOON", 15)
    return now


def test_a_log_has_a_line_every_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert not console.console.is_terminal
    with console.show_progress("finetune") as report:
        for step in range(1, 241):
            clock[0] += 1
            report(ProgressEvent("train", step, 600, f"loss {step}", 600.0 - step))
    assert capsys.readouterr().err.splitlines() == [
        "finetune: train 60 of 600, loss 60, 9 min left",
        "finetune: train 120 of 600, loss 120, 8 min left",
        "finetune: train 180 of 600, loss 180, 7 min left",
        "finetune: train 240 of 600, loss 240, 6 min left",
    ]


def test_what_is_not_counted_is_told_sooner(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with console.show_progress("evaluate") as report:
        report(ProgressEvent("evaluate", detail="encoding"))
        clock[0] += 20
        report(ProgressEvent("evaluate", detail="learning to read actions"))
        clock[0] += 1
        report(ProgressEvent("evaluate", detail="clips 1 to 16 of 84"))
    assert capsys.readouterr().err == "evaluate: learning to read actions\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0.4, "0 s left"), (119.4, "119 s left"), (150, "2 min left"), (9000, "2.5 h left")],
)
def test_the_time_left(seconds: float | None, words: str) -> None:
    assert console.time_left(ProgressEvent("train", seconds_left=seconds)) == words

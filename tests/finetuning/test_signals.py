import os
import signal
import threading
from collections.abc import Iterator

import pytest

from v2w_convert.finetuning.signals import deferred


class Told(BaseException):
    pass


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def tell(number: int, frame: object) -> None:
        raise Told

    before = signal.signal(signal.SIGTERM, tell)
    yield
    signal.signal(signal.SIGTERM, before)


def come() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_waits_until_it_is_obeyed() -> None:
    done = []
    with pytest.raises(Told), deferred() as pending:
        assert not pending
        pending.obey()
        come()
        done.append("step")
        assert pending
        pending.obey()
        done.append("never")
    assert done == ["step"]
    with pytest.raises(Told):
        come()  # as before


def test_a_signal_after_the_last_step_is_obeyed_at_the_end() -> None:
    done = []
    with pytest.raises(Told):
        with deferred():
            come()
            done.append("all")
    assert done == ["all"]


def test_a_second_signal_is_obeyed_at_once() -> None:
    done = []
    with pytest.raises(Told), deferred():
        come()
        done.append("one")
        come()
        done.append("two")
    assert done == ["one"]


def test_a_handler_that_returns_lets_the_run_go_on() -> None:
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with deferred() as pending:
        for _ in range(2):
            come()
            pending.obey()
            assert not pending
    assert seen == [signal.SIGTERM] * 2


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with deferred() as pending:
        come()
        assert not pending


def test_another_thread_changes_nothing() -> None:
    found = []

    def run() -> None:
        with deferred() as pending:
            found.append((bool(pending), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(False, before)]

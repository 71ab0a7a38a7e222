"""Processes that share a task: each its part, all the same result, and none waits for one that has ended."""

import os
from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.together import together
from v2w_convert.errors import V2WError
from v2w_convert.processes import ALONE, Processes, start_processes


@pytest.mark.parametrize("n", [0, 1, 3, 7])
def test_parts_are_nearly_equal_and_leave_nothing_out(n: int) -> None:
    parts = [list(range(n))[Processes(index, 3).share(n)] for index in range(3)]
    assert list(chain(*parts)) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_all_get_what_each_made_in_order(tmp_path: Path) -> None:
    def work(processes: Processes) -> object:
        made: list[int] = []

        def double(x: int) -> int:
            made.append(x)
            return 2 * x

        doubled = list(processes.each_of([1, 2, 3], double))
        return [doubled, made, processes.of_first(lambda: f"by {processes.index}")]

    doubled = [2, 4, 6]
    assert together(2, tmp_path / "a", work) == [[doubled, [1, 3], "by 0"], [doubled, [2], "by 0"]]
    assert work(ALONE) == [doubled, [1, 2, 3], "by 0"]


def test_a_mistake_of_one_is_raised_by_all(tmp_path: Path) -> None:
    def work(processes: Processes) -> None:
        def fail() -> None:
            if processes.index == 1:
                raise V2WError("read it", "it is damaged", "again")

        processes.each(fail)

    assert together(2, tmp_path / "a", work) == ["read it: it is damaged (try: again)"] * 2


def test_a_process_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    def work(processes: Processes) -> None:
        processes.each(lambda: os._exit(9) if processes.index == 1 else None)

    said, code = together(2, tmp_path / "a", work)
    assert code == 9 and said.startswith("share the work between 2 processes: another one has ended")


def test_several_processes_have_a_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_processes("cpu") == ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("v2w_convert.processes.resolve_device", torch.device)
    with pytest.raises(V2WError, match=r"one device for all processes \(try: --device cuda: each"):
        start_processes("cuda:1")

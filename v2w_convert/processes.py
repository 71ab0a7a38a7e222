"""The processes that share a task, as `torchrun` or `accelerate launch` start them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from v2w_convert.device import resolve_device
from v2w_convert.errors import V2WError

PATIENCE = timedelta(days=7)  # until a process that is waited for counts as lost
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Processes:
    """How many there are, and which one this is.

    What a method says that all processes do, all must call in the same order; what they get from each other is on the CPU.
    A `V2WError` of one is raised by all, so that none waits for another that has ended.

    Attributes:
        index: This one's number.
        count: How many.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one is alone, or the first of several."""
        return self.index == 0

    def share(self, n: int) -> slice:
        """This one's part of n things, which lie side by side; parts differ by one at most."""
        return slice(self.index * n // self.count, (self.index + 1) * n // self.count)

    def each(self, work: Callable[[], Made]) -> list[Made]:
        """All do `work`, each its own; returns what each made, in order.

        Raises:
            V2WError: That of the first process that has one; a process has ended.
        """
        if self.count == 1:
            return [work()]
        made, fault = None, None
        try:
            made = work()
        except V2WError as error:
            fault = (error.asked, error.found, error.try_)
        told: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(told, (made, fault))
        except RuntimeError:  # of the connection
            asked = f"share the work between {self.count} processes"
            raise V2WError(asked, "another one has ended", "see what that one says") from None
        for _, said in told:
            if said is not None:
                raise V2WError(*said)
        return [found for found, _ in told]

    def of_first(self, work: Callable[[], Made]) -> Made:
        """The first does `work`, and all get what it made. Raises as `each`."""
        found: Any = self.each(lambda: work() if self.first else None)[0]
        made: Made = found
        return made

    def each_of(self, things: Sequence[Given], work: Callable[[Given], Made]) -> Iterator[Made]:
        """All together do `work` for all things, in turns; yields to all what was made of each thing, in order.

        Raises as `each`.
        """
        for start in range(0, len(things), self.count):
            turn = things[start : start + self.count]
            made: list[Any] = self.each(
                lambda turn=turn: work(turn[self.index]) if self.index < len(turn) else None  # type: ignore[misc]
            )
            yield from made[: len(turn)]

    def device(self, name: str) -> torch.device:
        """This one's device of the kind called `name`. Raises as `resolve_device`."""
        device = resolve_device(name)
        if self.count == 1:
            return device
        from accelerate import PartialState

        own: torch.device = PartialState().device
        return own


ALONE = Processes()


def start_processes(name: str) -> Processes:
    """Find the processes that this one was started with, and connect to them.

    Args:
        name: What kind of device they compute on, as `resolve_device` takes it.

    Raises:
        V2WError: There is no such device, or not one for each of several processes.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        return ALONE
    from accelerate import PartialState

    device = resolve_device(name)
    asked = f"compute on {device} in several processes"
    require_own_devices(asked, device, 2)
    try:
        state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise V2WError(asked, str(error)) from None
    if state.device.type != device.type:
        raise V2WError(asked, f"accelerate chose {state.device}", "--device cpu or auto")
    return Processes(state.process_index, state.num_processes)


def require_own_devices(asked: str, device: torch.device, count: int) -> None:
    """Raise V2WError if several processes are given one device."""
    if count > 1 and device.index is not None:
        found = "one device for all processes"
        raise V2WError(asked, found, f"--device {device.type}: each takes its own")

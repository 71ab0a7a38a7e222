"""What `v2w verify` will take, in time and in memory, and what it may take."""

import ctypes
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from v2w_convert.checkpoint.source import Source
from v2w_convert.plan.probe import Visit, watched
from v2w_convert.verification.engine.inputs import enough_frames, random_inputs
from v2w_convert.verification.engine.weights import numbers
from v2w_convert.world.model import World

WIDE = 8  # bytes of a float64
PROGRAM = 0.6e9  # bytes for the program itself
ARRIVING = 3  # times the largest tensor, in float64: what is on its way from disk, and what the allocator keeps of it
SPARE = 1.1  # times the weights: what the allocator does not give back


class OutOfTime(Exception):
    """The budget is used up: what is being measured is given up."""


class Budget:
    """Minutes from now on, or None for any number of them; every phase may go on until its share of them is over."""

    def __init__(self, minutes: float | None, clock: Callable[[], float] = time.monotonic):
        self.minutes, self.clock, self.start, self.share = minutes, clock, clock(), 1.0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock() - self.start

    def check(self, *_: Any) -> None:
        """Raises OutOfTime. Takes anything, so that it can be a hook."""
        if self.minutes is not None and self.seconds >= 60 * self.minutes * self.share:
            raise OutOfTime

    def watch(self, model: nn.Module, modules: list[nn.Module]) -> None:
        """From now on no forward of `model` or of these modules in it begins when time is over."""
        for module in (model, *modules):
            module.register_forward_pre_hook(self.check)

    @property
    def why(self) -> str:
        """The reason for what was not measured."""
        part = "" if self.share == 1 else f", {self.share:.0%} of it until here"
        return f"the budget of {self.minutes:g} minutes was used up{part}"


@dataclass(frozen=True)
class Estimate:
    """What is to be expected.

    reading   seconds to read a model's weights once
    passing   seconds for two clips through the model, its weights read or in memory as they will be
    room      bytes of one model's weights that can be in memory
    held      the share of one model's float64 weights that this is, at most 1
    memory    bytes in use at most
    basis     where that is from, in words
    """

    reading: float
    passing: float
    room: float
    held: float
    memory: float
    basis: str


def estimate(
    world: World, source: Source, memory: float | None, clock: Callable[[], float], size: float = 1.0
) -> Estimate:
    """By two passes of `world`, whose weights are all on disk: of one block, and of enough frames for a claim.

    memory  bytes that may be used; None: what the machine has left
    size    of the largest clips, in those that are drawn
    """
    weights = float(numbers(source.tensors) * WIDE)
    flowing = 0.0

    def count(name: str, visit: Visit) -> None:
        nonlocal flowing
        flowing += sum(x.numel() * x.element_size() for x in visit.outputs)

    def timed(frames: int) -> float:
        start = clock()
        world(**random_inputs(world, 1, frames, seed=0))
        return clock() - start

    frames = enough_frames(world)
    one = timed(world.frames_per_block)
    with watched(world.base, count):
        many = timed(frames)

    given = available() if memory is None else memory
    flowing *= max(1.0, size)
    largest = max(math.prod(info.shape) for info in source.tensors.values())
    besides = PROGRAM + ARRIVING * largest * WIDE + 2 * flowing
    room = float("inf") if given is None else max(0.0, given - besides) / SPARE
    held = min(1.0, room / weights)
    basis = (
        f"one pass of {world.frames_per_block} and one of {frames} frames with weights read from disk, {one:.1f} s and {many:.1f} s; "
        f"{source_size(weights)} of float64 weights, of which {held:.0%} can be held in memory, and {source_size(2 * flowing)} "
        "of what flows between modules"
    )
    return Estimate(
        one, 2 * max(many - held * one, many / 2), room, held, held * weights * SPARE + besides, basis
    )


def give_back() -> None:
    """Let the system have what has been freed, where the C library is one that keeps it (glibc).

    It keeps pieces between those still in use: 4 GB of them after the gradients of 1.5 billion numbers read from disk.
    """
    with suppress(AttributeError, OSError, TypeError):  # macOS, musl; Windows
        ctypes.CDLL(None).malloc_trim(0)


def available() -> float | None:
    """Bytes that the machine has left; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def source_size(size: float) -> str:
    return f"{size / 1e9:.1f} GB"

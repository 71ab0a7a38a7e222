"""What `v2w verify` takes, in time and in memory, and what it may take."""

import ctypes
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from v2w_convert.checkpoint.source import Source
from v2w_convert.plan.probe import Visit, watched
from v2w_convert.verification.engine.inputs import enough_frames, random_inputs
from v2w_convert.verification.engine.weights import count_numbers
from v2w_convert.world.model import World

FLOAT64_BYTES = 8
PROGRAM_BYTES = 0.6e9
LARGEST_TENSOR_COPIES = (
    3  # float64 copies of the largest tensor: being read from disk, and kept by the allocator
)


class OutOfTime(Exception):
    """The budget is used up: the current measurement is given up."""


class Budget:
    """Minutes from now on. Every phase may run until its share of them is over.

    Attributes:
        minutes: The budget; None: no limit.
        share: The share of it that may be used up in the current phase.
    """

    def __init__(self, minutes: float | None, clock: Callable[[], float] = time.monotonic):
        """Start the clock, which returns seconds."""
        self.minutes, self.clock, self.start, self.share = minutes, clock, clock(), 1.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.start

    def portion(self, parts: int) -> "Budget":
        """Return a budget of an equal part of the time that is left."""
        left = None if self.minutes is None else max(0.0, self.minutes - self.seconds / 60) / parts
        return Budget(left, self.clock)

    def check(self, *_: Any) -> None:
        """Raise OutOfTime if the current share is used up. Takes any arguments, so that it can be a hook."""
        if self.minutes is not None and self.seconds >= 60 * self.minutes * self.share:
            raise OutOfTime

    def watch(self, model: nn.Module, modules: Iterable[nn.Module]) -> None:
        """Let no forward of `model`, or of these modules in it, begin when the time is up."""
        for module in (model, *modules):
            module.register_forward_pre_hook(self.check)

    @property
    def why(self) -> str:
        """The reason why something was not measured."""
        share = "" if self.share == 1 else f"; this phase may use {self.share:.0%} of it"
        return f"the budget of {self.minutes:g} minutes was used up{share}"


@dataclass(frozen=True)
class Estimate:
    """What verification is expected to take.

    Attributes:
        read_seconds: Seconds to run a block, which reads once those weights that do not fit into memory.
        pass_seconds: Seconds for two clips through the model, its weights in memory as far as they fit.
        weight_memory: Bytes of one model's weights that fit into memory beside what all its modules receive and return.
        world_memory: Bytes of the world model's weights that fit where no such record of all modules is kept.
        held_share: The share of the world model's float64 weights that this is, at most 1.
        memory: Largest number of bytes in use.
        basis: What this is estimated from, in words.
    """

    read_seconds: float
    pass_seconds: float
    weight_memory: float
    world_memory: float
    held_share: float
    memory: float
    basis: str


def estimate(
    world: World, source: Source, memory: float | None, clock: Callable[[], float], size: float = 1.0
) -> Estimate:
    """Estimate time and memory by two passes of `world`, whose weights are all on disk: one of a block, one of a clip.

    Args:
        world: The world model.
        source: Its files.
        memory: Bytes that may be used; None: what the machine has free.
        clock: Returns seconds.
        size: Size of the largest clips, relative to generated ones.
    """
    weights = float(count_numbers(source.tensors) * FLOAT64_BYTES)
    activations = 0.0

    def count(name: str, visit: Visit) -> None:
        nonlocal activations
        activations += sum(x.numel() * x.element_size() for x in visit.outputs)

    def timed(frames: int) -> float:
        start = clock()
        world(**random_inputs(world, 1, frames, seed=0))
        return clock() - start

    frames = enough_frames(world)
    block_seconds = timed(world.frames_per_block)
    with watched(world.base, count):
        clip_seconds = timed(frames)

    given = available_memory() if memory is None else memory
    activations *= max(1.0, size)
    largest = max(math.prod(info.shape) for info in source.tensors.values())
    other = PROGRAM_BYTES + LARGEST_TENSOR_COPIES * largest * FLOAT64_BYTES
    free = float("inf") if given is None else given - other
    weight_memory, world_memory = max(0.0, free - 2 * activations), max(0.0, free - activations)
    held = min(1.0, world_memory / weights)
    basis = (
        f"one pass of {world.frames_per_block} and one of {frames} frames with weights read from disk, "
        f"{block_seconds:.1f} s and {clip_seconds:.1f} s; {gigabytes(weights)} of float64 weights, of which {held:.0%} "
        f"can be held in memory, and {gigabytes(activations)} of activations, twice that for the base"
    )
    read_seconds = (
        max(1 - held, 1 / 4) * block_seconds
    )  # a quarter: that is hardly more than a block's arithmetic
    return Estimate(
        read_seconds=read_seconds,
        pass_seconds=2 * max(clip_seconds - block_seconds, clip_seconds / 4) + read_seconds,
        weight_memory=weight_memory,
        world_memory=world_memory,
        held_share=held,
        memory=other
        + max(min(weights, weight_memory) + 2 * activations, min(weights, world_memory) + activations),
        basis=basis,
    )


def release_freed_memory() -> None:
    """Return freed memory to the system, where the C library keeps it (glibc).

    glibc keeps free pieces between those in use: 4 GB after the gradients of 1.5 billion numbers read from disk.
    """
    with suppress(AttributeError, OSError, TypeError):  # macOS, musl; Windows
        ctypes.CDLL(None).malloc_trim(0)


def available_memory() -> float | None:
    """Return the bytes of memory that the machine has free; None if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def gigabytes(size: float) -> str:
    """Return `size`, in bytes, as text."""
    return f"{size / 1e9:.1f} GB"

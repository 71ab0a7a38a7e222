"""What claims are measured on: the files and the models, of which one at a time is in memory."""

import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.checkpoint.source import Source
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.convert import stored_dtype
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.verification.engine.budget import Budget
from v2w_convert.verification.engine.clips import ReferenceClips
from v2w_convert.verification.claims.distance import Recorded
from v2w_convert.verification.engine.inputs import enough_frames, random_inputs
from v2w_convert.verification.engine.models import open_base, open_world
from v2w_convert.world.model import World


@dataclass
class BaseRecord:
    """What is kept of the base once it has been freed, for claims that compare: small tensors.

    influence  (t t), of its real weights, for the picture
    leak       how much of a later frame comes through each of its modules, woken
    recorded   what it makes of a clip, and its sites, for the distance
    asleep     whether any of its layers had to be woken
    """

    influence: Tensor | None = None
    leak: dict[str, float] | None = None
    recorded: Recorded | None = None
    asleep: bool = True


@dataclass
class VerifyContext:
    """What is there to be measured, at one time.

    time    is checked while a model runs
    room    bytes that weights may take in memory; the rest stays on disk
    clips   of the user's data, for the distance; None: what is drawn will do
    large   whether measurements are to be brief where they would take hours otherwise; they say so
    world   the converted model; while the base is examined, its weights are on disk
    base    the base; while the world model is examined, its weights are on disk. None if it was not given
    """

    converted: Path
    source: Source
    origin: Source | None
    resolved: ResolvedPlan
    manifest: Manifest
    world: World
    time: Budget
    room: float
    base: nn.Module | None = None
    handed: BaseRecord = field(default_factory=BaseRecord)
    figures: dict[str, Any] = field(default_factory=dict)
    clips: ReferenceClips | None = None
    large: bool = False

    @property
    def stored(self) -> torch.dtype:
        return stored_dtype(self.source)


def with_base(bench: VerifyContext) -> None:
    assert bench.origin is not None
    bench.base = open_base(bench.origin, bench.room)
    bench.time.watch(bench.base, [])


def with_world(bench: VerifyContext) -> None:
    """The base's weights go, and are read from disk where a site is compared."""
    _freed(bench)
    bench.world = open_world(bench.converted, room=bench.room)
    bench.base = None if bench.origin is None else open_base(bench.origin, room=0)
    bench.time.watch(bench.world.base, [*bench.world.sites.values()])


def with_stored(bench: VerifyContext) -> None:
    """In the dtype of its weights, or in float32 where this machine cannot; woken."""
    _freed(bench)
    bench.world = open_world(bench.converted, bench.stored, bench.room)
    if not _runs(bench.world):
        bench.world = open_world(bench.converted, torch.float32, bench.room)
    randomize_zero_init(bench.world.base)
    bench.time.watch(bench.world.base, [])


def with_training(bench: VerifyContext) -> None:
    """In float32, woken."""
    _freed(bench)
    bench.world = open_world(bench.converted, torch.float32, bench.room)
    randomize_zero_init(bench.world.base)
    bench.time.watch(bench.world.base, [])


def _freed(bench: VerifyContext) -> None:
    bench.base = None
    del bench.world
    gc.collect()  # a model may hold itself


def _runs(world: World) -> bool:
    """Whether this machine can run `world` in the dtype that it has."""
    try:
        return bool(world(**random_inputs(world, 2, enough_frames(world), seed=0)).isfinite().all())
    except RuntimeError:  # torch has no such kernel here
        return False

"""The phases of a verification. A phase is a state of the models; each check belongs to one.

The phases follow each other so that the two models are never in memory together.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.verification.engine.budget import release_freed_memory
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import enough_frames, random_inputs
from v2w_convert.verification.engine.models import open_base, open_world
from v2w_convert.verification.engine.weights import SCRATCH
from v2w_convert.world.experts import ExpertsWorld
from v2w_convert.world.model import World

BASE_SHARE, WORLD_SHARE = 0.4, 0.9  # shares of the budget at which the base and the world model must be done


class Cost(NamedTuple):
    """What a measurement takes, roughly.

    Attributes:
        passes: How often two clips go through a model.
        reads: How often a model's weights are read.
    """

    passes: float = 0.0
    reads: float = 0.0


NO_COST = Cost()


@dataclass(frozen=True)
class Phase:
    """A state of the models.

    Attributes:
        name: For messages and tests.
        begin: Brings the models into this state; None: nothing to do.
        after: The phase that must have begun before this one can.
        until: The share of the budget at which it must be over.
        exact: True if everything, tables of positions too, is computed in float64 (`engine.exact`).
        budgeted: False if it is measured even when the budget is used up.
        cost: Of `begin`.
    """

    name: str
    begin: Callable[[VerifyContext], None] | None = None
    after: "Phase | None" = None
    until: float = 1.0
    exact: bool = False
    budgeted: bool = True
    cost: Cost = NO_COST


def begin_base(context: VerifyContext) -> None:
    """Open the base, with its real weights, in float64."""
    assert context.origin is not None
    context.loaded_base = open_base(context.origin, context.weight_memory)
    context.budget.watch(context.loaded_base, [])


def begin_base_randomized(context: VerifyContext) -> None:
    """Randomise the base's zero-initialised layers, which would hide a leak."""
    context.base_record.randomized = randomize_zero_init(context.base) > 0


def begin_world(context: VerifyContext) -> None:
    """Free the base, which is read from disk where a site is compared; open the world model in float64."""
    free_models(context)
    context.loaded_world = open_world(context.model, memory=context.world_memory)
    context.loaded_base = None if context.origin is None else open_base(context.origin, memory=0)
    context.budget.watch(context.world.base, [*context.world.sites.values()])


def begin_world_randomized(context: VerifyContext) -> None:
    """Randomise the world model's zero-initialised layers, which would hide a leak."""
    randomize_zero_init(context.world.base)


def begin_stored(context: VerifyContext) -> None:
    """Open the world model in the dtype of its weights, or in float32 where this machine cannot run that."""
    free_models(context)
    open_randomized(context, context.stored_dtype)
    if not can_run(context.world):
        open_randomized(context, torch.float32)


def begin_training(context: VerifyContext) -> None:
    """Open the world model in float32, in which it can be trained."""
    free_models(context)
    open_randomized(context, torch.float32)


def open_randomized(context: VerifyContext, dtype: torch.dtype) -> None:
    """Open the world model in a dtype of rollouts or training, and randomise its zero-initialised layers."""
    context.loaded_world = None
    context.loaded_world = open_world(context.model, dtype, context.weight_memory)
    randomize_zero_init(context.world.base)
    context.budget.watch(context.world.base, [])


def begin_experts(context: VerifyContext) -> None:
    """Open both denoisers in float64, each with half of the memory for its weights."""
    free_models(context)
    assert context.source.boundary is not None
    high, low = (
        open_world(part, memory=context.weight_memory / 2) for part in context.model.experts.values()
    )
    context.loaded_experts = ExpertsWorld(high, low, context.source.boundary)
    for world in (high, low):
        randomize_zero_init(world.base)
        context.budget.watch(world.base, [])


def can_run(world: World) -> bool:
    """Return whether this machine can run `world` in its dtype."""
    try:
        return bool(world(**random_inputs(world, 2, enough_frames(world), seed=0)).isfinite().all())
    except RuntimeError:  # torch has no such kernel here
        return False


def free_models(context: VerifyContext) -> None:
    """Drop all models."""
    context.loaded_base = None
    context.loaded_world = None
    context.loaded_experts = None
    SCRATCH.clear()
    gc.collect()  # a model may be part of a reference cycle
    release_freed_memory()


HEADERS = Phase("headers", budgeted=False)  # of the weight files: if they do not fit, no model can be opened
HASHES = Phase("hashes")
FILES = Phase("files")
BASE = Phase("base", begin_base, until=BASE_SHARE, exact=True)
BASE_RANDOMIZED = Phase(
    "base, zero-initialised layers randomised",
    begin_base_randomized,
    after=BASE,
    until=BASE_SHARE,
    exact=True,
    cost=Cost(reads=1),
)
WORLD = Phase("world model", begin_world, until=WORLD_SHARE, exact=True)
WORLD_RANDOMIZED = Phase(
    "world model, zero-initialised layers randomised",
    begin_world_randomized,
    after=WORLD,
    until=WORLD_SHARE,
    exact=True,
    cost=Cost(reads=1),
)
# Not exact: tables of positions in float64 are not those of the stored model.
STORED = Phase("stored precision", begin_stored, cost=Cost(reads=1))
TRAINING = Phase("training", begin_training, cost=Cost(reads=1))
MODES = Phase(
    "dtypes and modes", begin_training, cost=Cost(reads=1)
)  # its check opens other dtypes after float32
EXPERTS = Phase("two experts", begin_experts, exact=True, cost=Cost(reads=2))
PHASES = (
    HEADERS,
    HASHES,
    FILES,
    BASE,
    BASE_RANDOMIZED,
    WORLD,
    WORLD_RANDOMIZED,
    STORED,
    TRAINING,
    MODES,
    EXPERTS,
)

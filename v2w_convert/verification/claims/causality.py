"""No frame sees a later one, and no clip another: what changes there changes nothing here, exactly."""

from typing import NamedTuple

import torch

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.blame import first_leaking_module
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import change_frames, enough_frames, random_inputs
from v2w_convert.verification.engine.phases import STORED, WORLD_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import advise_against, fix_rules
from v2w_convert.world.model import World

MAX_LONG_CLIP = 16  # blocks in a window: up to here, clips longer than the window are measured, too

CAUSAL = ClaimSpec(
    "causal",
    "causality",
    "No frame sees a later one, in float64",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)
CAUSAL_STORED = ClaimSpec(
    "causal-stored",
    "causality",
    "No frame sees a later one, in the stored precision",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)
BATCH_INDEPENDENT = ClaimSpec(
    "batch-independent",
    "causality",
    "Clips of one batch do not influence each other",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)


class Trial(NamedTuple):
    """Random clips, in each of which everything after a cut is changed. Each clip of the batch has its own cut.

    Attributes:
        seed: Of the clips.
        blocks: Their length.
        cuts: For each clip, the last block that is not changed.
        each_kind: True to change each kind of input alone, too, besides all together.
    """

    seed: int
    blocks: int
    cuts: list[int]
    each_kind: bool = False


def choose_trials(world: World, brief: bool = False) -> list[Trial]:
    """Return trials of several seeds, lengths and batch sizes.

    Args:
        world: The world model.
        brief: True for a large model: each kind alone after the middle only, and no clip longer than the window.
    """
    t = enough_frames(world) // world.frames_per_block
    every = list(range(t - 1))
    some = [t // 2 - 1] if brief else sorted({0, t // 2 - 1, t - 2})
    trials = [
        Trial(0, t, every),
        Trial(1, t, some, each_kind=True),
        Trial(2, 2, [0]),  # a batch of one, as short as possible
    ]
    window = None if world.resolved.window is None else world.resolved.window // world.frames_per_block
    longer = 2 * t if window is None or window < t else window + 1
    if longer <= MAX_LONG_CLIP + 1 and not brief:
        trials.append(Trial(3, longer, [longer - 2, 0]))
    return trials


def measure_causality(
    world: World, spec: ClaimSpec = CAUSAL, note: str = "", trials: list[Trial] | None = None
) -> Claim:
    """Change every kind of input after each frame, and each kind alone after some.

    Args:
        world: The world model.
        spec: The claim, which depends on the precision.
        note: An addition to how it was measured.
        trials: None: `choose_trials(world)`.
    """
    n = world.frames_per_block
    trials = choose_trials(world) if trials is None else trials
    largest, where = 0.0, ""
    kinds: list[str] = []
    for seed, blocks, cuts, each_kind in trials:
        before = random_inputs(world, len(cuts), blocks * n, seed)
        kinds = [*before]
        kept = torch.arange(blocks * n) < (torch.tensor(cuts)[:, None] + 1) * n
        output = world(**before)
        for together in [kinds, *([[kind] for kind in kinds] if each_kind else [])]:
            after = change_frames(before, seed + 100, world, together, ~kept)
            change = max_abs_diff(world(**after)[kept], output[kept])
            if change > 0 and not where:
                where = first_leaking_module(world, before, after, kept)
            largest = max(largest, change)
    unit = "frames" if n == 1 else f"blocks of {n}"
    dtype = str(world.dtype).removeprefix("torch.")
    return spec.result(
        largest,
        where=where,
        how=f"largest change of outputs 0 … t when everything after t changes ({', '.join(kinds)}), for each t; each of "
        f"these alone after some t; {len({trial.seed for trial in trials})} seeds, clips of "
        f"{_enumerate(sorted({trial.blocks for trial in trials}))} {unit}, batches of "
        f"{_enumerate(sorted({len(trial.cuts) for trial in trials}))}; zero-initialised layers randomised{note}",
        sentence=f"Frame t sees nothing of the frames after {'it' if n == 1 else f'its block of {n}'}, in {dtype}",
    )


def measure_batch_independence(world: World, b: int = 3) -> Claim:
    """Change everything in one of `b` clips; the outputs of the others must not change."""
    t = enough_frames(world)
    before = random_inputs(world, b, t, seed=0)
    output = world(**before)
    largest, where = 0.0, ""
    for clip in reversed(range(b)):
        kept = (torch.arange(b) != clip)[:, None].expand(-1, t)
        after = change_frames(before, 1, world, tuple(before), ~kept)
        change = max_abs_diff(world(**after)[kept], output[kept])
        if change > 0 and not where:
            where = first_leaking_module(world, before, after, kept)
        largest = max(largest, change)
    return BATCH_INDEPENDENT.result(
        largest,
        where=where,
        how=f"largest change of any of {b} clips' outputs when everything in another changes; zero-initialised layers "
        "randomised",
    )


def _enumerate(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + (" and " if len(numbers) > 1 else "") + str(numbers[-1])


def _measure_stored(context: VerifyContext) -> list[Claim]:
    """The same in the dtype in which the weights are stored, with the casts that the base makes."""
    world = context.world
    stored = str(context.stored_dtype).removeprefix("torch.")
    note = (
        ""
        if world.dtype == context.stored_dtype
        else f"; this machine cannot run {stored}, the stored precision"
    )
    return [measure_causality(world, CAUSAL_STORED, note, choose_trials(world, context.large))]


CHECKS = (
    Check(
        "causality",
        (CAUSAL,),
        WORLD_RANDOMIZED,
        lambda c: [measure_causality(c.world, trials=choose_trials(c.world, c.large))],
        cost=lambda c: Cost(passes=11 if c.large else 24),
    ),
    Check(
        "independence of clips",
        (BATCH_INDEPENDENT,),
        WORLD_RANDOMIZED,
        lambda c: [measure_batch_independence(c.world, 2 if c.large else 3)],
        cost=lambda c: Cost(passes=3 if c.large else 6),
    ),
    Check("causality in the stored precision", (CAUSAL_STORED,), STORED, _measure_stored, Cost(passes=5)),
)

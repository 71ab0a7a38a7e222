"""No frame sees a later one, and no clip another: what changes there changes nothing here, exactly."""

from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.blame import first_leaking_module
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import Inputs, change_frames, enough_frames, random_inputs
from v2w_convert.verification.engine.manners import MIXED, UNIFORM, Manner, clips_in_manners, other_sizes
from v2w_convert.verification.engine.phases import STORED, WORLD_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import advise_against, fix_rules
from v2w_convert.world.model import World

LONG = 48  # blocks of a clip far beyond the window
LONG_CUT = 40  # there
BRIEF = 4  # blocks of many clips, for a large model
BATCH = 9  # clips, more than any training batch that the recipe names
PAIR, SHARED = 2, UNIFORM[:2] + UNIFORM[3:5]  # of two clips only: manners that both share

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
        manners: What the clips are like, in turn; none: plain random ones.
        size: h and w of the latents; None: `latent_size`.
        clean: Latents (b t c h w) in place of random ones.
    """

    seed: int
    blocks: int
    cuts: list[int]
    each_kind: bool = False
    manners: tuple[Manner, ...] = ()
    size: tuple[int, int] | None = None
    clean: Tensor | None = None

    @property
    def description(self) -> str:
        """What the clips are, in words."""
        b = len(self.cuts)
        manner = f", {self.manners[0].name}" if len(self.manners) == 1 else ""
        picture = "" if self.size is None else ", latents of {} × {}".format(*self.size)
        return f"{b} {'clip' if b == 1 else 'clips'} of {self.blocks}{picture}{manner}"

    def inputs(self, world: World) -> Inputs:
        """Return the clips as they are before anything is changed."""
        b, t = len(self.cuts), self.blocks * world.frames_per_block
        if not self.manners:
            return random_inputs(world, b, t, self.seed, size=self.size, clean=self.clean)
        manners = list(islice(cycle(self.manners), b))
        return clips_in_manners(world, manners, t, self.seed, self.size, self.clean)


def choose_trials(
    world: World, brief: bool = False, stored: bool = False, clean: Tensor | None = None
) -> list[Trial]:
    """Return trials of several seeds, lengths, batch sizes, picture sizes and manners.

    Args:
        world: The world model.
        brief: True for a large model: each kind alone after the middle only, shorter clips, fewer manners.
        stored: True for the stored precision: many clips in all manners, and each kind alone.
        clean: Clips of the user's data (b t c h w), which are tried in all manners, too.
    """
    t = enough_frames(world) // world.frames_per_block
    some = [t // 2 - 1] if brief else sorted({0, t // 2 - 1, t - 2})
    many = BRIEF if brief else t
    every = list(islice(cycle(range(many - 1)), max(many - 1, BATCH)))
    trials = [
        Trial(0, many, every, manners=(Manner("plain"), MIXED, *UNIFORM)),
        Trial(1, t, some, each_kind=True),
    ]
    if clean is not None and not stored:
        cuts = list(islice(cycle(range(t - 1)), len(clean)))
        trials += [Trial(2, t, cuts, manners=(manner,), clean=clean) for manner in (MIXED, UNIFORM[2])]
    if stored:
        return trials
    trials += [
        Trial(3, 2, [0], manners=(manner,)) for manner in UNIFORM
    ]  # a batch of one, as short as possible
    trials += [Trial(4, 2, [0], manners=(MIXED,), size=size) for size in other_sizes(world, brief)]
    if brief:
        trials.append(Trial(5, 2 * t, [2 * t - 2], manners=(MIXED,)))
    else:
        trials.append(Trial(5, LONG, [LONG_CUT], manners=(MIXED,)))
        window = world.resolved.window
        if window is not None and t <= (window := window // world.frames_per_block) < LONG:
            trials.append(Trial(6, window + 1, [window - 1, 0]))
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
    largest, where, leaking = 0.0, "", ""
    kinds: dict[str, None] = {}
    sizes: dict[str, None] = {}
    for trial in trials:
        if leaking:
            break
        before = trial.inputs(world)
        kinds |= dict.fromkeys(before)
        sizes["{} × {}".format(*before["latents"].shape[-2:])] = None
        kept = torch.arange(trial.blocks * n) < (torch.tensor(trial.cuts)[:, None] + 1) * n
        output = world(**before)
        for together in [[*before], *([[kind] for kind in before] if trial.each_kind else [])]:
            after = change_frames(before, trial.seed + 100, world, together, ~kept)
            change = max_abs_diff(world(**after)[kept], output[kept])
            if change > 0 and not leaking:
                where = first_leaking_module(world, before, after, kept)
                leaking = f"; found with {trial.description}, and what comes after it was not tried"
            largest = max(largest, change)
    unit = "frames" if n == 1 else f"blocks of {n}"
    dtype = str(world.dtype).removeprefix("torch.")
    manners = dict.fromkeys(manner.name for trial in trials for manner in trial.manners)
    return spec.result(
        largest,
        where=where,
        how=f"largest change of outputs 0 … t when everything after t changes ({', '.join(kinds)}), for each t; each of "
        f"these alone after some t; {len({trial.seed for trial in trials})} seeds, clips of "
        f"{_enumerate(sorted({trial.blocks for trial in trials}))} {unit}, batches of "
        f"{_enumerate(sorted({len(trial.cuts) for trial in trials}))}, latents of {_enumerate([*sizes])}"
        + "".join(f"; {name}" for name in manners)
        + f"; zero-initialised layers randomised{note}{leaking}",
        sentence=f"Frame t sees nothing of the frames after {'it' if n == 1 else f'its block of {n}'}, in {dtype}",
    )


def measure_batch_independence(world: World, brief: bool = False) -> Claim:
    """Change everything in some of the clips; the outputs of the others must not change.

    Each clip is told apart from each other one: a bit of its index says in which of the passes it changes.

    Args:
        world: The world model.
        brief: True for a large model: in the large batch clips of one block, and fewer manners in the others.
    """
    shared = SHARED[:2] if brief else SHARED
    batches = [list(islice(cycle((MIXED, *UNIFORM)), BATCH)), *([manner] * PAIR for manner in shared)]
    largest, where = 0.0, ""
    for manners in batches:
        if largest > 0:
            break
        t = (1 if brief and len(manners) == BATCH else 2) * world.frames_per_block
        before, others = (clips_in_manners(world, manners, t, seed) for seed in (0, 1))
        outputs = [(before, world(**before)), (others, world(**others))]
        for bit in range((len(manners) - 1).bit_length()):
            changed = (torch.arange(len(manners)) >> bit) % 2 == 1
            after = change_frames(before, 1, world, tuple(before), changed[:, None].expand(-1, t), others)
            output = world(**after)
            for (inputs, expected), same in zip(outputs, (~changed, changed), strict=True):
                change = max_abs_diff(output[same], expected[same])
                if change > 0 and not where:
                    where = first_leaking_module(world, inputs, after, same[:, None].expand(-1, t))
                largest = max(largest, change)
    return BATCH_INDEPENDENT.result(
        largest,
        where=where,
        how=f"largest change of any clip's outputs when everything in others changes, in batches of {PAIR} and {BATCH}, any "
        f"clip without any other; {'; '.join(manner.name for manner in (MIXED, *UNIFORM))}; zero-initialised layers "
        "randomised",
    )


def _enumerate(items: list[Any]) -> str:
    return ", ".join(map(str, items[:-1])) + (" and " if len(items) > 1 else "") + str(items[-1])


def _measure_stored(context: VerifyContext) -> list[Claim]:
    """The same in the dtype in which the weights are stored, with the casts that the base makes."""
    world = context.world
    stored = str(context.stored_dtype).removeprefix("torch.")
    note = (
        ""
        if world.dtype == context.stored_dtype
        else f"; this machine cannot run {stored}, the stored precision"
    )
    return [measure_causality(world, CAUSAL_STORED, note, choose_trials(world, context.large, stored=True))]


def _measure(context: VerifyContext) -> list[Claim]:
    clean = None if context.clips is None else context.clips.latents
    return [measure_causality(context.world, trials=choose_trials(context.world, context.large, clean=clean))]


CHECKS = (
    Check(
        "causality",
        (CAUSAL,),
        WORLD_RANDOMIZED,
        _measure,
        cost=lambda c: Cost(passes=13, reads=10) if c.large else Cost(passes=35),
        not_if_large="longer clips, more sizes of pictures, each kind of input alone at the ends of a clip",
    ),
    Check(
        "independence of clips",
        (BATCH_INDEPENDENT,),
        WORLD_RANDOMIZED,
        lambda c: [measure_batch_independence(c.world, c.large)],
        cost=lambda c: Cost(passes=6, reads=4) if c.large else Cost(passes=14),
    ),
    Check("causality in the stored precision", (CAUSAL_STORED,), STORED, _measure_stored, Cost(passes=5)),
)

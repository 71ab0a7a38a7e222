"""Each number of an action on its own: whether the model heeds it, and whether it is scaled as the data's are."""

import torch
from torch import Tensor

from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.operations.action import ACTION_MODULE
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.action_statistics import ActionStatistics, recorded_actions
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import enough_frames, random_inputs
from v2w_convert.verification.engine.phases import FILES, WORLD, WORLD_RANDOMIZED, Cost
from v2w_convert.verification.report.fixes import fix_text
from v2w_convert.world.model import World

LEAST = 1e-4  # of the largest effect of any number
MAX_NUMBERS = 32  # that are changed, evenly spaced
MAX_NUMBERS_BRIEF = 8
SHOWN = 16  # numbers, where the data's are not known
NOT_RECORDED = "the model was finetuned by a version that kept no statistics of the actions"

HEEDED = ClaimSpec(
    "action-numbers-heeded",
    "actions",
    "Every number of an action has an effect",
    fix=fix_text(
        "v2w finetune on data in which these numbers change, or convert with --action-dim without them"
    ),
)
SCALED = ClaimSpec(
    "actions-scaled-as-data",
    "actions",
    "Actions are centred and scaled as the training data's are",
    stages=("finetuned",),
    fix=fix_text("v2w finetune again; or copy the run's files again"),
)


def measure_heeded(
    world: World, statistics: ActionStatistics | None, weights: str, most: int = MAX_NUMBERS
) -> Claim:
    """Change one number of all actions at a time, by what the model takes for a standard deviation.

    Args:
        world: Float64.
        statistics: Of the data that it was trained on: numbers that never changed there are excused, and others are changed
            by their deviation; None: they are not known.
        weights: What weights it has, for the report.
        most: Numbers that are changed at most.
    """
    a = world.action_dim
    count = min(a, most)
    numbers = [i * a // count for i in range(count)]
    inputs = random_inputs(world, 1, world.resolved.frames(2 * world.frames_per_block), seed=0)
    center, scale = _normalisation(world, statistics)
    inputs |= {
        "actions": center.expand_as(inputs["actions"]),
        "dropped": torch.zeros_like(inputs["dropped"]),
    }
    output = world(**inputs)
    size = float(output.norm())
    effects = {}
    for number in numbers:
        step = torch.zeros(a, dtype=world.dtype)
        step[number] = scale[number]
        changed = world(**inputs | {"actions": inputs["actions"] + step})
        effects[number] = float((changed - output).norm()) / size if size else 0.0
    largest = max(effects.values())
    varies = [True] * a if statistics is None else statistics.varies()
    deaf = [
        number
        for number, effect in effects.items()
        if varies[number] and not (effect > 0 and effect >= LEAST * largest)
    ]
    unit = "a standard deviation of the data" if statistics is not None else "what the model divides it by"
    excused = [number for number in numbers if not varies[number]]
    told = ", ".join(f"{number}: {effect:.1e}" for number, effect in effects.items())
    return HEEDED.count(
        [f"action number {number}" for number in deaf],
        f"numbers, of {count}{'' if count == a else f' of {a}'}, with no effect, or one below {LEAST:g} of the largest; effect "
        f"of {unit}, over the norm of the output: {told}"
        + (f"; never changed in the data: {', '.join(map(str, excused))}" if excused else "")
        + f"; {weights}, float64",
    )


def _normalisation(world: World, statistics: ActionStatistics | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (a,) of the data, or else of what the model takes the data to be; 1 where it is 0."""
    a, dtype = world.action_dim, world.dtype
    if statistics is not None:
        mean, std = (torch.tensor(x, dtype=dtype) for x in (statistics.mean, statistics.std))
        return mean, torch.where(std > 0, std, 1.0)
    for site in world.sites.values():
        if (embedding := getattr(site, ACTION_MODULE, None)) is not None:
            return embedding.center.to(dtype), embedding.scale.to(dtype)
    return torch.zeros(a, dtype=dtype), torch.ones(a, dtype=dtype)


def measure_scaled(source: Source, resolved: ResolvedPlan, manifest: Manifest) -> Claim:
    """Compare the action layers' centre and scale with the statistics of the data that they were set by."""
    sites = [name for name, operation in resolved.sites.items() if operation.name == "action"]
    if not sites:
        return SCALED.not_measured("the base was trained with actions")
    runs = recorded_actions(manifest)
    if not runs or runs[0] is None:  # a model that is trained further keeps what it has learned with
        given = [
            f"{name} {', '.join(f'{x:.3g}' for x in _stored(source, sites[0], name)[:SHOWN].tolist())}"
            for name in ("center", "scale")
        ]
        return SCALED.not_measured(f"{NOT_RECORDED}; the model's own: {'; '.join(given)}")
    std = [value if value > 0 else 1.0 for value in runs[0].std]
    broken, worst = [], 0.0
    for site in sites:
        for name, values in (("center", runs[0].mean), ("scale", std)):
            tensor = f"{site}.{ACTION_MODULE}.{name}"
            found = _stored(source, site, name)
            expected = torch.tensor(values, dtype=torch.float64).to(found.dtype)
            if not torch.equal(found, expected):
                broken.append(tensor)
                worst = max(worst, float(((found - expected).double().abs() / torch.tensor(std)).max()))
    return SCALED.count(
        broken,
        f"tensors that are not the recorded mean and standard deviation of {runs[0].count} actions, rounded to their dtype"
        + (f"; at most {worst:.2g} standard deviations apart" if broken else ""),
    )


def _stored(source: Source, site: str, name: str) -> Tensor:
    return read_tensor(source.tensors[f"{site}.{ACTION_MODULE}.{name}"])


def _statistics(context: VerifyContext) -> ActionStatistics | None:
    """Of the last run: what it has learned from."""
    runs = recorded_actions(context.manifest)
    return runs[-1] if runs else None


def _most(context: VerifyContext) -> int:
    return MAX_NUMBERS_BRIEF if context.large else MAX_NUMBERS


def _cost(context: VerifyContext) -> Cost:
    """In passes of two long clips."""
    world, passes = context.world, 1 + min(context.world.action_dim, _most(context))
    return Cost(
        passes=passes * world.resolved.frames(2 * world.frames_per_block) / (2 * enough_frames(world))
    )


CHECKS = (
    Check(
        "centre and scale of actions",
        (SCALED,),
        FILES,
        lambda c: [measure_scaled(c.source, c.resolved, c.manifest)],
        applies=lambda c: c.stage == "finetuned",
    ),
    Check(
        "numbers of an action",
        (HEEDED,),
        WORLD,
        lambda c: [measure_heeded(c.world, _statistics(c), "real weights", _most(c))],
        _cost,
        applies=lambda c: c.stage != "converted",
    ),
    Check(
        "numbers of an action",
        (HEEDED,),
        WORLD_RANDOMIZED,
        lambda c: [measure_heeded(c.world, None, "zero-initialised layers randomised", _most(c))],
        _cost,
        applies=lambda c: c.stage == "converted",
    ),
)

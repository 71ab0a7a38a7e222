"""How far the converted model's output is from the base's: what finetuning has to make up for. A figure.

The two models run one after the other on the same clips. Of the base, its outputs are kept, and the inputs and outputs of
each of its sites.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_unflatten

from v2w_convert.operations.base import clip_context_like
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.sites import bind_context
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.budget import OutOfTime
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.clips import ReferenceClips, relative_size
from v2w_convert.verification.engine.context import BaseOutputs, VerifyContext
from v2w_convert.verification.engine.inputs import (
    Inputs,
    base_call,
    enough_frames,
    first_tensor,
    latent_size,
    random_inputs,
    uniform,
)
from v2w_convert.verification.engine.models import fold_base
from v2w_convert.verification.engine.phases import BASE, WORLD, Cost
from v2w_convert.verification.engine.recorded_calls import RecordedCall, record_calls
from v2w_convert.world.model import World

NOISE_LEVELS = 4
NAMED_SITES = 5  # in the claim

DISTANCE = ClaimSpec(
    "distance",
    "distance",
    "How far the output is from the base's, relative to the base's",
    figure=True,
    needs_base=True,
)


@torch.no_grad()
def record_base(
    base: nn.Module, resolved: ResolvedPlan, action_dim: int, clips: ReferenceClips | None = None
) -> BaseOutputs:
    """Run the base at several noise levels, and record what its sites receive and return.

    Args:
        base: Float64, with its real weights. It does not change.
        resolved: The plan.
        action_dim: The length of an action.
        clips: What it runs on; None: a generated image that moves.
    """
    world = fold_base(base, resolved, action_dim)
    tokens = world.clip_tokens(*latent_size(world))
    levels = world.noise.inference_levels(NOISE_LEVELS, tokens)[:-1].flip(0).tolist()
    inputs = [_inputs(world, level, clips) for level in levels]
    outputs = [base_call(base, world, each)(each["latents"]) for each in inputs]
    middle = inputs[len(inputs) // 2]
    calls = record_calls(world, lambda: world(**middle, bidirectional=True))
    sites = {name: (call, _output(world.sites[name], call)) for name, call in calls.items()}
    description = "a generated image that moves, random conditions" if clips is None else clips.description
    return BaseOutputs(inputs, levels, outputs, sites, description)


@torch.no_grad()
def measure_distance(world: World, recorded: BaseOutputs) -> tuple[Claim, dict[str, Any]]:
    """Compare the world model's outputs with the base's.

    Each number is the norm of the difference over the norm of the base's output; null if that is not finite. A site
    runs alone: in its causal form, with the converted weights, on the input of the base's own site.

    Returns:
        The claim, and the report's figure `distance`: `clips`, `noise_levels`, `frames` (a row for each level), `sites`.
    """
    frames = []
    for inputs, expected in zip(recorded.inputs, recorded.outputs, strict=True):
        output = world(**inputs)
        frames.append(
            [_relative_norm(output[:, frame], expected[:, frame]) for frame in range(output.shape[1])]
        )
    sites: dict[str, float] = {}
    for name, (call, expected) in recorded.sites.items():
        if name not in world.sites or world.resolved.sites[name].embeds_actions:
            continue
        then = call.context
        bind_context(
            world.sites, clip_context_like(then, then.b, then.t)
        )  # there may be sites within the site
        sites[name] = _relative_norm(_output(world.sites[name], call), expected)
    numbers = [number for row in frames for number in row]
    worst = sorted(sites, key=lambda name: -sites[name])[:NAMED_SITES]
    by_level = ", ".join(
        f"{sum(row) / len(row):.2g} at level {level:.3g}"
        for level, row in zip(recorded.levels, frames, strict=True)
    )
    claim = DISTANCE.result(
        sum(numbers) / len(numbers),
        where=", ".join(worst),
        how=f"norm of the difference over the norm of the base's output, mean of {len(frames[0])} frames at {len(frames)} "
        f"noise levels: {by_level}; {recorded.description}, no actions; real weights, float64. Sites, each alone on the "
        f"input of the base's own: {', '.join(f'{sites[name]:.2g}' for name in worst)} at the worst",
    )
    return claim, {
        "clips": recorded.description,
        "noise_levels": recorded.levels,
        "frames": [[_finite(number) for number in row] for row in frames],
        "sites": {name: _finite(number) for name, number in sites.items()},
    }


def _inputs(world: World, level: float, clips: ReferenceClips | None) -> Inputs:
    """The clips noised to `level`, with one prompt for all frames: random conditions, or with `clips` the null ones."""
    generator = torch.Generator().manual_seed(5)
    if clips is None:
        conditions, clean = _generated_clip(world, generator)
    else:
        conditions, clean = _null_conditions(world, clips.latents), clips.latents
    levels = torch.full(clean.shape[:2], level)
    noise = torch.randn(clean.shape, generator=generator)
    return conditions | {
        "latents": world.noise.add_noise(clean, noise, levels).to(world.dtype),
        "noise_level": levels,
    }


def _generated_clip(world: World, generator: torch.Generator) -> tuple[Inputs, Tensor]:
    """Random conditions, and a random image that moves by one column a frame."""
    t = world.resolved.frames(enough_frames(world))
    inputs = uniform(random_inputs(world, 1, t, seed=0), world)
    _, _, c, h, w = inputs["latents"].shape
    image = torch.randn(1, c, h, w, generator=generator)
    clean = torch.stack([image.roll(frame, -1) for frame in range(t)], 1)
    return {name: inputs[name] for name in world.resolved.call.conditions}, clean


def _null_conditions(world: World, latents: Tensor) -> Inputs:
    """For clips (b t c h w), the conditions that stand for none given."""
    b, t, _, h, w = latents.shape
    found = {}
    for name, condition in world.resolved.call.conditions.items():
        value = condition.null(h, w)
        value = value.to(world.dtype) if value.is_floating_point() else value
        entries = t if condition.is_per_frame else t // world.frames_per_block
        found[name] = value.expand(b, entries, *value.shape)
    return found


def _output(site: Any, call: RecordedCall) -> Tensor:
    args, kwargs = tree_unflatten(call.leaves, call.tree)
    return first_tensor(site(*args, **kwargs))


def _relative_norm(a: Tensor, b: Tensor) -> float:
    """The norm of a - b over that of b; infinite if it is not finite, so that it counts as the worst."""
    difference, size = float((a - b).norm()), float(b.norm())
    if difference == 0:
        return 0.0
    ratio = difference / size if size else math.inf
    return ratio if math.isfinite(ratio) else math.inf


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _record(context: VerifyContext) -> list[Claim]:
    context.base_record.outputs = record_base(
        context.base, context.resolved, context.manifest.action_dim, context.clips
    )
    return []


def _measure(context: VerifyContext) -> list[Claim]:
    recorded = context.base_record.outputs
    if recorded is None:  # there was no time to run the base
        raise OutOfTime
    context.base_record.outputs = None  # free its memory
    claim, context.figures["distance"] = measure_distance(context.world, recorded)
    return [claim]


def _cost(context: VerifyContext) -> Cost:
    return Cost(passes=2.5 * relative_size(context.clips, context.world))


CHECKS = (
    Check("outputs of the base", (), BASE, _record, _cost, applies=lambda c: c.origin is not None),
    Check("distance from the base", (DISTANCE,), WORLD, _measure, _cost),
)

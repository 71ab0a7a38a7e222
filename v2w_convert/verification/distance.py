"""How far the converted model's output is from the base's: what finetuning has to make up for. A figure, no pass or fail.

The base and the world model are asked one after the other, on the same clip; of the base, its outputs are kept, and what went
into and came out of each of its sites.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_unflatten

from v2w_convert.operations.base import clip_context
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.sites import bind_context
from v2w_convert.verification.claims import Claim, figure
from v2w_convert.verification.clips import ReferenceClips
from v2w_convert.verification.identity import folded
from v2w_convert.verification.inputs import (
    Inputs,
    base_call,
    enough_frames,
    first_tensor,
    random_inputs,
    uniform,
)
from v2w_convert.verification.past import RecordedCall, record_calls
from v2w_convert.world.model import World

LEVELS = 4
WORST = 5  # sites that are named


@dataclass
class Recorded:
    """What the base made of clips, float64.

    inputs   at each noise level, arguments of World.forward (b t …); no actions
    levels   ascending, in the noise kind's unit
    outputs  at each level, (b t c h w)
    sites    at the level in the middle: site name -> its call, and its output in the base
    told     what the clips are, in words
    """

    inputs: list[Inputs]
    levels: list[float]
    outputs: list[Tensor]
    sites: dict[str, tuple[RecordedCall, Tensor]]
    told: str


@torch.no_grad()
def of_base(
    base: nn.Module, resolved: ResolvedPlan, action_dim: int, clips: ReferenceClips | None = None
) -> Recorded:
    """`base` is untouched, float64, with its real weights. It is asked as it is, and folded for what its sites see.

    clips  what it is asked about; None: a drawn picture that moves
    """
    world = folded(base, resolved, action_dim)
    levels = world.noise.inference_levels(LEVELS)[:-1].flip(0).tolist()
    inputs = [_inputs(world, level, clips) for level in levels]
    outputs = [base_call(base, world, each)(each["latents"]) for each in inputs]
    middle = inputs[len(inputs) // 2]
    heard = record_calls(world, lambda: world(**middle, bidirectional=True))
    sites = {name: (call, _output(call.site, call)) for name, call in heard.items()}
    told = "a drawn picture that moves, random conditions" if clips is None else clips.told
    return Recorded(inputs, levels, outputs, sites, told)


@torch.no_grad()
def of_world(world: World, recorded: Recorded) -> tuple[Claim, dict[str, Any]]:
    """The claim, and the figure `distance`: `clips`, `noise_levels`, `frames` (a row for each level), `sites`.

    Each number is the norm of the difference over the norm of the base's; null where that is no finite number. A site is
    asked alone: in its causal form and with the converted weights, on what the base's own site was given.
    """
    frames = []
    for inputs, expected in zip(recorded.inputs, recorded.outputs, strict=True):
        output = world(**inputs)
        frames.append([_apart(output[:, frame], expected[:, frame]) for frame in range(output.shape[1])])
    sites = {}
    for name, (call, expected) in recorded.sites.items():
        if name not in world.sites or world.resolved.sites[name].embeds_actions:
            continue
        then = call.site.context
        bind_context(
            world.sites, clip_context(then.b, then.t, then.frames_per_block, then.positions_per_block)
        )  # there may be sites within the site
        sites[name] = _apart(_output(world.sites[name], call), expected)
    every = [number for row in frames for number in row]
    worst = sorted(sites, key=lambda name: -sites[name])[:WORST]
    each = ", ".join(
        f"{sum(row) / len(row):.2g} at level {level:.3g}"
        for level, row in zip(recorded.levels, frames, strict=True)
    )
    claim = figure(
        "distance",
        sum(every) / len(every),
        ", ".join(worst),
        f"norm of the difference over the norm of the base's output, mean of {len(frames[0])} frames at {len(frames)} noise "
        f"levels: {each}; {recorded.told}, no actions; real weights, float64. Sites, each alone "
        f"on what the base's own was given: {', '.join(f'{sites[name]:.2g}' for name in worst)} at the worst",
    )
    return claim, {
        "clips": recorded.told,
        "noise_levels": recorded.levels,
        "frames": [[_plain(number) for number in row] for row in frames],
        "sites": {name: _plain(number) for name, number in sites.items()},
    }


def _inputs(world: World, level: float, clips: ReferenceClips | None) -> Inputs:
    """The clips noised to `level`; one of each condition for all frames, with clips that are given the one that says nothing."""
    generator = torch.Generator().manual_seed(5)
    if clips is None:
        conditions, clean = _drawn(world, generator)
    else:
        conditions, clean = _silent(world, clips.latents), clips.latents
    levels = torch.full(clean.shape[:2], level)
    noise = torch.randn(clean.shape, generator=generator)
    return conditions | {
        "latents": world.noise.add_noise(clean, noise, levels).to(world.dtype),
        "noise_level": levels,
    }


def _drawn(world: World, generator: torch.Generator) -> tuple[Inputs, Tensor]:
    """Random conditions, and a drawn picture that moves by one column a frame."""
    t = world.resolved.frames(enough_frames(world))
    inputs = uniform(random_inputs(world, 1, t, seed=0))
    _, _, c, h, w = inputs["latents"].shape
    picture = torch.randn(1, c, h, w, generator=generator)
    clean = torch.stack([picture.roll(frame, -1) for frame in range(t)], 1)
    return {name: inputs[name] for name in world.resolved.call.conditions}, clean


def _silent(world: World, latents: Tensor) -> Inputs:
    """For clips (b t c h w), the conditions that are given where a user gives none."""
    b, t, _, h, w = latents.shape
    found = {}
    for name, condition in world.resolved.call.conditions.items():
        value = condition.null(h, w)
        value = value.to(world.dtype) if value.is_floating_point() else value
        found[name] = value.expand(b, t // world.frames_per_block, *value.shape)
    return found


def _output(site: Any, call: RecordedCall) -> Tensor:
    args, kwargs = tree_unflatten(call.leaves, call.tree)
    return first_tensor(site(*args, **kwargs))


def _apart(a: Tensor, b: Tensor) -> float:
    """Infinite where it is no number, so that it counts as the worst."""
    difference, size = float((a - b).norm()), float(b.norm())
    if difference == 0:
        return 0.0
    share = difference / size if size else math.inf
    return share if math.isfinite(share) else math.inf


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None

"""A converted model beside its family's own pipeline, step by step."""

import inspect
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from tests.pipelines.differences import Largest, NotTheSame, is_default
from tests.pipelines.recorded import Step, calls_of, record
from tests.pipelines.release import Release
from tests.pipelines.stages import STAGES
from tests.pipelines.stages.stage import SEED, Stage
from tests.tiny import ACTIONS, component, tiny_model, tiny_plan
from v2w_convert.plan.call import ResolvedCall, call_base
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.surgery.change import apply_surgery
from v2w_convert.verification.engine.exact import exact
from v2w_convert.world.experts import ExpertsWorld, is_high
from v2w_convert.world.model import World
from v2w_convert.world.vae import VAE

TOLERANCE = 1e-5
"""Relative, in float32."""


@dataclass(frozen=True)
class Figures:
    """The largest differences over all steps, each over the largest value of its kind.

    Attributes:
        told: Of the number that the denoiser receives for the noise level.
        input: Of its other arguments.
        output: Of what it returns.
        next_latents: Of what the solver makes of what the pipeline's denoiser returned; None: not compared.
        by_argument: `input` for every argument.
    """

    told: float
    input: float
    output: float
    next_latents: float | None
    by_argument: dict[str, float]


@torch.no_grad()
def compare(release: Release, believed: dict[str, Any] | None = None) -> Figures:
    """Run the release's pipeline on tiny denoisers, and the converted model on all that the pipeline was given.

    Args:
        release: The release.
        believed: What differs in the scheduler config that the model is converted with, to see the comparison fail.

    Raises:
        NotTheSame: One of the two gives an argument that the other does not.
    """
    resolved = resolved_of(release, believed)
    names = [component(resolved.plan)]
    if "transformer_2" in release.index:
        names.append("transformer_2")
    denoisers = {name: denoiser_of(release, seed) for seed, name in enumerate(names)}
    worlds = {name: folded(release, resolved, denoiser) for name, denoiser in denoisers.items()}
    scheduler = getattr(diffusers, release.scheduler["_class_name"]).from_config(release.scheduler)
    stage = STAGES[release.stage](release, denoisers, scheduler)
    steps = record(stage, denoisers)
    assert len(steps) == stage.steps, f"{len(steps)} calls of the denoiser in {stage.steps} steps"
    conditions = {**stage.conditions, **image_conditions(stage, resolved.call)}
    t, h, w = stage.sizes
    model = joined(release, worlds)
    sampler = model.noise.sampler(stage.steps, t * h * w)

    told, output, following = Largest(), Largest(), Largest()
    arguments: dict[str, Largest] = {}
    for i, step in enumerate(steps):
        world, base = worlds[step.denoiser], denoisers[step.denoiser]
        level = torch.full((1, t), float(sampler.levels[i]))
        if stage.clean_told:
            level[:, : stage.clean_frames] = 0
        if len(names) > 1:
            high = is_high(world.noise, release.index["boundary_ratio"], level)
            if high.unique().tolist() != [step.denoiser == names[0]]:
                raise NotTheSame(f"the denoiser that is asked at step {i}: not {step.denoiser}")
        noisy = noisy_frames(step, stage, world, level)
        made: list[Step] = []
        with ExitStack() as stack:
            for name, each in worlds.items():
                stack.enter_context(calls_of(each.base, name, made))
            predicted = model(noisy, level, bidirectional=True, **conditions)
        assert [each.denoiser for each in made] == [step.denoiser], "another denoiser than the pipeline's"
        told.add(*told_per_frame(made[0], step, stage, world))
        for name, pair in both_arguments(base, world, noisy, level, conditions, step, stage).items():
            arguments.setdefault(name, Largest()).add(*pair)
        returned = predicted_by(step.output, stage, world)
        if release.rounds is None:
            output.add(predicted, returned)
        else:
            output.add(*unrounded(base, world, noisy, level, conditions, step, stage))
        if release.next_not_compared is None:
            stepped = t - stage.clean_frames
            frames = stepped if stage.clean_left_out else t
            after = rearrange(step.next, f"{stage.layout} -> b t c h w", b=1, t=frames, h=h, w=w)
            following.add(sampler.step(returned, noisy, i)[:, -stepped:], after[:, -stepped:])
    by_argument = {name: largest.relative for name, largest in sorted(arguments.items())}
    return Figures(
        told=told.relative,
        input=max(by_argument.values()),
        output=output.relative,
        next_latents=following.relative if release.next_not_compared is None else None,
        by_argument=by_argument,
    )


def resolved_of(release: Release, believed: dict[str, Any] | None = None) -> ResolvedPlan:
    """The release's plan on its tiny denoiser, with its own scheduler.

    Raises:
        V2WError: The plan does not serve the release.
    """
    plan = tiny_plan(release.plan)
    config = {**plan.tiny, "_class_name": plan.base, **release.tiny}
    return resolve(plan, config, {**release.scheduler, **(believed or {})})


def denoiser_of(release: Release, seed: int) -> nn.Module:
    """A tiny denoiser; tables that its checkpoints store are not what they are initialised to."""
    model = tiny_model(release.plan, release.tiny, seed=seed)
    stored = model.state_dict().keys() - dict(model.named_parameters()).keys()
    generator = torch.Generator().manual_seed(seed)
    for name in sorted(stored):
        table = model.get_buffer(name)
        table += torch.randn(table.shape, generator=generator)
    return model


def folded(release: Release, resolved: ResolvedPlan, denoiser: nn.Module) -> World:
    """The denoiser converted, with its own weights, none transferred: the bidirectional form's."""
    model = tiny_model(release.plan, release.tiny)
    apply_surgery(resolved, model, ACTIONS, seed=0)
    model.load_state_dict(denoiser.state_dict(), strict=False)
    return World(model, resolved, ACTIONS).eval()


def joined(release: Release, worlds: dict[str, World]) -> World | ExpertsWorld:
    """The world, or both as one where the release has two denoisers."""
    if len(worlds) == 1:
        return next(iter(worlds.values()))
    high, low = worlds.values()
    return ExpertsWorld(high, low, release.index["boundary_ratio"])


def image_conditions(stage: Stage, call: ResolvedCall) -> dict[str, Tensor]:
    """What the family's own function makes of the stage's picture."""
    if stage.picture is None or call.image_conditions is None:
        return {}
    generator = torch.Generator().manual_seed(SEED)
    vae = VAE(stage.vae, dict(stage.pipeline.scheduler.config))
    made = call.image_conditions(vae, np.array(stage.picture), stage.sizes[0], generator)
    return {name: value[None] for name, value in made.items()}


def frames_of(x: Tensor, layout: str, stage: Stage) -> Tensor:
    """What the denoiser receives or returns, as (b t c h w)."""
    t, h, w = stage.sizes
    return rearrange(x, f"{layout} -> b t c h w", t=t, h=h, w=w)


def predicted_by(output: Tensor, stage: Stage, world: World) -> Tensor:
    """A denoiser's output without a variance, (b t c h w)."""
    return frames_of(output, world.resolved.call.layout, stage)[:, :, : world.channels]


def unrounded(
    base: nn.Module,
    world: World,
    noisy: Tensor,
    level: Tensor,
    conditions: dict[str, Tensor],
    step: Step,
    stage: Stage,
) -> tuple[Tensor, Tensor]:
    """The output of the converted model and that of the denoiser, called as in the step, both in float64 throughout."""

    def wide(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    arguments = {name: wide(value) for name, value in step.arguments.items()}
    with exact():
        expected = deepcopy(base).double()(**arguments, return_dict=False)
        mine = deepcopy(world).double()(
            wide(noisy),
            wide(level),
            bidirectional=True,
            **{name: wide(value) for name, value in conditions.items()},
        )
    first = expected[0] if isinstance(expected, tuple) else expected
    return mine, predicted_by(first, stage, world)


def noisy_frames(step: Step, stage: Stage, world: World, level: Tensor) -> Tensor:
    """The noisy frames of a step, (b t c h w), by what the denoiser received: some pipelines put clean ones in there."""
    call = world.resolved.call
    received = frames_of(step.arguments[call.argument], call.layout, stage)[:, :, : world.channels]
    factor = world.noise.model_input(torch.ones_like(received), level)
    return received / factor


def told_per_frame(made: Step, step: Step, stage: Stage, world: World) -> tuple[Tensor, Tensor]:
    """The noise level's number for every block, that of the folded model and that of the pipeline."""
    name = world.resolved.call.noise_level
    t, n = stage.sizes[0], world.frames_per_block
    mine = torch.as_tensor(made.arguments[name]).flatten()
    theirs = torch.as_tensor(step.arguments[name])
    if theirs.numel() == 1:
        theirs = theirs.reshape(1).expand(t)
    # One for each token, all of a frame's the same.
    per_frame = theirs.reshape(t, -1)
    assert torch.equal(per_frame, per_frame[:, :1].expand_as(per_frame))
    return mine, per_frame[::n, 0]


def both_arguments(
    base: nn.Module,
    world: World,
    noisy: Tensor,
    level: Tensor,
    conditions: dict[str, Tensor],
    step: Step,
    stage: Stage,
) -> dict[str, tuple[Any, Any]]:
    """Every argument but the noise level's: what the plan's call gives for the whole clip, and what the pipeline gave."""
    call = world.resolved.call
    h, w = noisy.shape[-2:]
    given = dict(conditions)
    for name, condition in call.conditions.items():
        if name not in given:
            value = getattr(world, f"null_{name}", None)
            given[name] = (condition.null(h, w) if value is None else value)[None]
    made: list[Step] = []
    with calls_of(base, step.denoiser, made):
        call_base(base, call, world.noise.model_input(noisy, level), world.noise.timestep(level)[:, 0], given)
    defaults = {name: p.default for name, p in inspect.signature(type(base).forward).parameters.items()}
    mine, theirs = (
        {
            name: value
            for name, value in arguments.items()
            if name != call.noise_level and not is_default(value, defaults[name])
        }
        for arguments in (made[0].arguments, step.arguments)
    )
    theirs = {name: value for name, value in theirs.items() if name not in stage.unread}
    if mine.keys() != theirs.keys():
        raise NotTheSame(f"the plan gives {sorted(mine)}, the pipeline {sorted(theirs)}")
    return {name: (mine[name], theirs[name]) for name in mine}

"""A rollout by the stream is the rollout as it is defined, worked out over whole clips without any stream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.plan.call import Conditions
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.sites import State
from v2w_convert.verification.claim import Claim, ClaimSpec, join_names, nan_max
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import conditions_of, latent_size, random_inputs
from v2w_convert.verification.engine.phases import EXPERTS, WORLD_RANDOMIZED, Cost
from v2w_convert.verification.engine.reference_rollout import ReferenceRollout
from v2w_convert.verification.report.fixes import fix_text
from v2w_convert.world.experts import AnyWorld, experts_of
from v2w_convert.world.rollout import Sampling, Stream

# Of a frame's largest value: a million roundings of float64. A stream sums the same numbers as a clip in another order,
# some tens of roundings a pass in every family, and a few passes follow each other.
ALLOWED = 2**20 * torch.finfo(torch.float64).eps
SEED = 2**40 + 1
B = 2

FIX = fix_text(
    "where stream-by-block holds, no weight is to blame but v2w's own loop, world/rollout.py: install v2w again"
)
LOOP = ClaimSpec(
    "rollout-equal",
    "rollout",
    "A rollout shows the model every frame, action, noise level and condition as defined, and returns what it commits",
    fix=FIX,
    core=True,
)
HISTORY = ClaimSpec(
    "rollout-history",
    "rollout",
    "History has the context noise that was asked for, and the model is told so",
    fix=FIX,
    core=True,
)
GUIDANCE = ClaimSpec(
    "rollout-guidance",
    "rollout",
    "Guidance leads away from the model without the newest action, or with a noised history, by its scale",
    fix=FIX,
    core=True,
)
BRANCH = ClaimSpec(
    "rollout-branch",
    "rollout",
    "A branch has its stem's past, and the stem's noise to come or another seed's; neither disturbs the other",
    fix=FIX,
    core=True,
)
SPECS = (LOOP, HISTORY, GUIDANCE, BRANCH)

AnyRollout = Stream | ReferenceRollout


@dataclass(frozen=True)
class Given:
    """What rollouts are given.

    Attributes:
        latents: (b t c h w), in blocks, float32 as data is.
        actions: (b t a), float32.
        conditions: Once per rollout, pictures for every frame.
        n: Frames to a block.
        window: Frames in view, where the plan has no window.
    """

    latents: Tensor
    actions: Tensor
    conditions: Conditions
    n: int
    window: int | None

    def observed(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Frames and actions of some blocks."""
        return self.latents[:, start * self.n : stop * self.n], self.actions_of(start, stop)

    def actions_of(self, start: int, stop: int) -> Tensor:
        """Actions of some blocks."""
        return self.actions[:, start * self.n : stop * self.n]

    def action(self, block: int) -> Tensor:
        """A block's action, as `Stream.step` takes it."""
        actions = self.actions_of(block, block + 1)
        return actions[:, 0] if self.n == 1 else actions


Play = Callable[[AnyRollout, Given], list[Tensor]]
"""Takes a rollout through some blocks, and returns the generated ones."""


@dataclass(frozen=True)
class Trial:
    """A rollout that is played twice.

    Attributes:
        spec: The claim that it is for.
        sampling: How frames are sampled.
        blocks: How many blocks it needs.
        play: What is done.
    """

    spec: ClaimSpec
    sampling: Sampling
    blocks: int
    play: Play


def measure_rollout(world: AnyWorld, brief: bool = False) -> list[Claim]:
    """Play rollouts by the stream and by the reference.

    Args:
        world: Float64, one denoiser or two.
        brief: True for a large model: a few blocks, with context noise, guidance and branches in one rollout.
    """
    trials = _brief_trials(world) if brief else _trials(world)
    given = _given(world, max(trial.blocks for trial in trials))
    found = {
        spec: [(trial, _apart(world, trial, given)) for trial in trials if trial.spec is spec]
        for spec in SPECS
    }
    if brief:
        found |= dict.fromkeys((HISTORY, GUIDANCE), found[HISTORY] + found[BRANCH])
    return [_claim(spec, results, brief) for spec, results in found.items()]


def _trials(world: AnyWorld) -> list[Trial]:
    window = _window_blocks(world.resolved)
    context = _context_noise(world)
    once = _after(2, 1)
    return [
        Trial(LOOP, Sampling(steps=3), window + 3, _past_the_window(window)),
        Trial(HISTORY, Sampling(steps=2, context_noise=context), 3, _after(1, 2)),
        Trial(HISTORY, Sampling(steps=2, context_noise=0.0), 3, once),
        Trial(GUIDANCE, Sampling(steps=2, guidance=2.5), 3, once),
        Trial(GUIDANCE, Sampling(steps=2, guidance=0.5), 3, once),
        Trial(GUIDANCE, replace(_other_history(world), guidance=1.0), 3, _after(1, 2)),
        Trial(GUIDANCE, Sampling(steps=2, guidance=0.5, history_guidance=0.5), 3, once),
        Trial(BRANCH, replace(_other_history(world), context_noise=context), 4, _branches),
    ]


def _brief_trials(world: AnyWorld) -> list[Trial]:
    everything = replace(_other_history(world), context_noise=_context_noise(world))
    little = Sampling(steps=2, guidance=0.5, context_noise=0.0, history_guidance=0.5)
    return [
        Trial(LOOP, Sampling(steps=3), 4, _after(2, 2)),
        Trial(HISTORY, little, 2, _after(1, 1)),
        Trial(BRANCH, everything, 4, _branches),
    ]


def _past_the_window(window: int) -> Play:
    """Observe frames twice, as many as the window has blocks, the last without its action; then two steps, one without."""

    def play(rollout: AnyRollout, given: Given) -> list[Tensor]:
        rollout.observe(*given.observed(0, window))
        rollout.observe(
            given.observed(window, window + 1)[0].double() / 3
        )  # numbers that float32 does not have
        return [rollout.step(given.action(window + 1)), rollout.step()]

    return play


def _after(observed: int, steps: int) -> Play:
    """Observe some blocks, and generate others."""

    def play(rollout: AnyRollout, given: Given) -> list[Tensor]:
        rollout.observe(*given.observed(0, observed))
        blocks = range(observed, observed + steps)
        return [rollout.step_block(given.actions_of(block, block + 1)) for block in blocks]

    return play


def _branches(stem: AnyRollout, given: Given) -> list[Tensor]:
    """Two branches go ahead of the stem, which then makes two blocks: the first with its noise, the second with seed 0's."""
    stem.observe(*given.observed(0, 2))
    twin, other = stem.branch(), stem.branch(seed=0)
    ahead = [twin.step(given.action(3)), other.step(given.action(2))]
    return [*ahead, stem.step(given.action(2)), stem.step(given.action(3))]


def _given(world: AnyWorld, blocks: int) -> Given:
    part = next(iter(experts_of(world).values()))
    n, (h, w) = world.frames_per_block, latent_size(part)
    inputs = random_inputs(part, B, blocks * n, seed=0)
    generator = torch.Generator().manual_seed(1)
    latents, actions = (
        torch.randn(B, blocks * n, *shape, generator=generator)
        for shape in ((world.channels, h, w), (world.action_dim,))
    )
    window = None if world.resolved.window else blocks * n
    return Given(latents, actions, conditions_of(inputs, part), n, window)


def _apart(world: AnyWorld, trial: Trial, given: Given) -> list[float]:
    """How far each block is from the reference's, relative to it; infinitely, if the state has not the window's size."""
    h, w = given.latents.shape[-2:]
    options: dict[str, Any] = {
        "sampling": trial.sampling,
        "seed": SEED,
        "window": given.window,
        **given.conditions,
    }
    stream = world.stream(B, h, w, **options)
    found = trial.play(stream, given)
    expected = trial.play(ReferenceRollout(world, B, h, w, **options), given)
    if trial.spec is LOOP and _sizes(stream.state) != _sizes(world.empty_state(B, h, w, given.window)):
        return [float("inf")]
    return [
        max_abs_diff(a, b) / float(b.abs().max()) if a.shape == b.shape else float("inf")
        for a, b in zip(found, expected, strict=True)
    ]


def _claim(spec: ClaimSpec, results: Sequence[tuple[Trial, list[float]]], brief: bool) -> Claim:
    how = (
        "largest difference of the generated frames, over their largest value, from those of an independent loop that "
        f"passes the whole clip at every step; {B} rollouts; "
        + "; ".join(_said(trial.sampling) for trial, *_ in results)
    )
    if brief and spec is not LOOP:
        how += "; context noise, guidance and branches in one rollout"
    how += "; float64; zero-initialised layers randomised; infinite where a frame, or the state, is of another size"
    broken = [
        f"{_said(trial.sampling)}, block {number}"
        for trial, apart in results
        for number, value in enumerate(apart)
        if not value <= ALLOWED
    ]
    how += f"; broken with {join_names(broken, 3)}" if broken else ""
    measured = nan_max(value for _, apart in results for value in apart)
    return spec.result(measured, allowed=ALLOWED, how=how)


def _said(sampling: Sampling) -> str:
    said = [f"{sampling.steps} {'step' if sampling.steps == 1 else 'steps'}"]
    said += [f"guidance {sampling.guidance:g}"] if sampling.guidance != 1 else []
    said += [] if sampling.context_noise is None else [f"context noise {sampling.context_noise:.3g}"]
    if sampling.history_guidance != 1:
        level = sampling.history_guidance_noise
        at = "the largest level" if level is None else f"the level {level:.3g}"
        said.append(f"history guidance {sampling.history_guidance:g} from {at}")
    return " with ".join(said[:2]) + "".join(f" and {more}" for more in said[2:])


def _sizes(state: State) -> dict[str, tuple[int, ...]]:
    return {
        f"{site}.{key}": tuple(value.shape)
        for site, kept in state.sites.items()
        for key, value in kept.items()
    }


def _window_blocks(resolved: ResolvedPlan) -> int:
    """Blocks in the window; three if there is none."""
    return 3 if resolved.window is None else resolved.window // resolved.frames_per_block


def _context_noise(world: AnyWorld) -> float:
    """A level between clean and noise: a third of the way down a rollout of three steps."""
    part = next(iter(experts_of(world).values()))
    return float(world.noise.inference_levels(3, world.clip_tokens(*latent_size(part)))[1])


def _other_history(world: AnyWorld) -> Sampling:
    """Both guidances, of which that by history leads away from one that is neither clean nor noise alone."""
    level = float(world.noise.level_at(torch.tensor(0.8)))
    return Sampling(steps=2, guidance=2.5, history_guidance=1.5, history_guidance_noise=level)


def _has_one(context: VerifyContext) -> bool:
    return context.source.low_noise is None


def _has_two(context: VerifyContext) -> bool:
    return context.source.low_noise is not None


def _cost(context: VerifyContext) -> Cost:
    """Counted: blocks of two clips, of seven to a pass, and calls."""
    window = _window_blocks(context.resolved)
    blocks, calls = (161, 83) if context.large else (259 + 7 * window, 140)
    return Cost(passes=blocks * context.resolved.frames_per_block / 7, reads=0.3 * calls)


CHECKS = (
    Check(
        "rollouts",
        SPECS,
        WORLD_RANDOMIZED,
        lambda c: measure_rollout(c.world, c.large),
        _cost,
        applies=_has_one,
        whole=True,
    ),
    Check(
        "rollouts by two experts",
        SPECS,
        EXPERTS,
        lambda c: measure_rollout(c.experts, c.large),
        _cost,
        applies=_has_two,
        whole=True,
    ),
)

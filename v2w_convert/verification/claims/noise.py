"""Noise is added, told, split and stepped as the checkpoint's own scheduler does.

`world.noise` is compared with the scheduler class of diffusers that the folder names, driven as the family's pipeline
drives it. No model runs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from v2w_convert.checkpoint.source import Source
from v2w_convert.noise import Noise
from v2w_convert.noise.grids import timesteps_arguments
from v2w_convert.noise.schedulers import build_scheduler, with_timesteps
from v2w_convert.verification.claim import Claim, ClaimSpec, nan_max
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import latent_size
from v2w_convert.verification.engine.phases import WORLD, Cost
from v2w_convert.verification.report.fixes import CONVERT_AGAIN, fix_text

STEPS = (10, 25)
SHAPE = (1, 2, 3, 4, 4)  # b t c h w
ROUNDING = 1e-5  # relative: schedulers keep sigmas in float32, from 0.002 to 700
# Of the clip's standard deviation. DDIM may end one entry of its table above clean, or go down by other steps than its
# grid's; a wrong sign or direction leaves several times the clip.
LEFT_OVER = 0.2
FIX = fix_text(f"the noise in v2w.json is not that of scheduler/scheduler_config.json; {CONVERT_AGAIN}")

LEVELS = ClaimSpec(
    "noise-told",
    "noise",
    "At every step of a rollout the base is told the number that the checkpoint's scheduler tells it",
    fix=FIX,
    core=True,
)
FALL = ClaimSpec(
    "noise-falls", "noise", "The noise levels of a rollout fall to the scheduler's clean end", fix=FIX
)
BEGINS = ClaimSpec(
    "noise-begins", "noise", "A rollout begins with noise of the size with which the pipeline begins", fix=FIX
)
ADDED = ClaimSpec("noise-added", "noise", "Noise is added as the checkpoint's scheduler adds it", fix=FIX)
SPLIT = ClaimSpec(
    "noise-split",
    "noise",
    "From the prediction of a perfect model, the clean frames and their noise are recovered",
    fix=FIX,
)
STEPPED = ClaimSpec(
    "noise-stepped",
    "noise",
    "Every step of a rollout equals the step of the checkpoint's scheduler",
    fix=FIX,
    core=True,
)
RECOVERED = ClaimSpec(
    "noise-recovered",
    "noise",
    "With a perfect model, the checkpoint's scheduler ends at the clean frames",
    fix=FIX,
)
SPECS = (LEVELS, FALL, BEGINS, ADDED, SPLIT, STEPPED, RECOVERED)


class Reference:
    """The checkpoint's scheduler as diffusers has it, its timesteps set as by the family's pipeline.

    Frames are compared as the base receives them, in whatever units the scheduler keeps them.
    """

    def __init__(self, noise: Noise, config: Mapping[str, Any], steps: int, tokens: int):
        spec = noise.spec
        built = build_scheduler(config, {})
        given = timesteps_arguments(spec.grid, spec.mu, built.config, steps, tokens)
        self.scheduler: Any = with_timesteps(built, **given)
        self.timesteps = torch.as_tensor(self.scheduler.timesteps).double()
        self.scheduler.is_scale_input_called = True  # it would warn
        self.kind, self.steps, self.edm = spec.kind, len(self.timesteps), spec.prediction == "edm"

    def first(self, noise: Tensor) -> Tensor:
        """The scheduler's frames before the first step, of standard normal noise."""
        if self.edm:  # Cosmos's pipeline does not ask its scheduler
            return noise * float(self.scheduler.config.sigma_max)
        return noise * float(getattr(self.scheduler, "init_noise_sigma", 1.0))

    def input(self, frames: Tensor, i: int) -> Tensor:
        """What the base is given of the scheduler's frames at step i."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return frames
        self.scheduler._step_index = i
        scaled: Tensor = self.scheduler.scale_model_input(frames, self.scheduler.timesteps[i])
        return scaled

    def unscaled(self, frames: Tensor, i: int) -> Tensor:
        """The scheduler's frames at step i of frames of the same noise, alpha² + sigma² = 1."""
        one = torch.ones((), dtype=frames.dtype)
        return frames / self.input(one, i) if self.kind == "ddpm" else frames

    def step(self, output: Tensor, frames: Tensor, i: int) -> Tensor:
        """The scheduler's frames after step i."""
        if hasattr(self.scheduler, "_step_index"):
            self.scheduler._step_index = i
        following: Tensor = self.scheduler.step(output, self.scheduler.timesteps[i], frames).prev_sample
        return following.to(frames.dtype)

    def noisy(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        """What the base is given of `clean` with `noise` at step i."""
        if self.kind == "ddpm":
            share = self.scheduler.alphas_cumprod.double()[int(self.timesteps[i])]
            alpha, sigma = share.sqrt(), (1 - share).sqrt()
        else:
            sigma = self.scheduler.sigmas[i].double()
            alpha = torch.ones_like(sigma) if self.kind == "edm" else 1 - sigma
            if self.scheduler.config.get("invert_sigmas", False):
                alpha, sigma = sigma, alpha
        noisy: Tensor = alpha * clean + sigma * noise
        return self.input(noisy, i) if self.kind == "edm" else noisy


def measure_noise(noise: Noise, config: Mapping[str, Any] | None, tokens: int) -> list[Claim]:
    """Compare `noise` with the checkpoint's scheduler.

    Args:
        noise: The world model's.
        config: Of the scheduler; None: there is none that diffusers has.
        tokens: Latent tokens of a clip.
    """
    if config is None:
        return [spec.not_measured("no scheduler of diffusers samples this kind of noise") for spec in SPECS]
    claims = [measure(noise, config, tokens) for measure in (_told, _falls, _begins, _added)]
    claims.append(_split(noise, tokens))
    if getattr(noise.spec, "base_scale", 1.0) != 1.0:
        why = "clean frames are scaled as DynamiCrafter does it, which no scheduler of diffusers knows"
        return [*claims, STEPPED.not_measured(why), RECOVERED.not_measured(why)]
    return [*claims, _stepped(noise, config, tokens), _recovered(noise, config, tokens)]


def _told(noise: Noise, config: Mapping[str, Any], tokens: int) -> Claim:
    def off(steps: int) -> float:
        expected = Reference(noise, config, steps, tokens).timesteps
        levels = noise.inference_levels(steps, tokens)[:-1]
        if len(levels) != len(expected):
            return float("inf")
        told = noise.timestep(levels[None])[0].double()
        return float((told - expected).abs().max() / expected.abs().max())

    return LEVELS.result(
        nan_max(map(off, STEPS)),
        allowed=ROUNDING,
        how=f"largest difference, over the largest number, in rollouts of {_steps()} steps",
    )


def _falls(noise: Noise, config: Mapping[str, Any], tokens: int) -> Claim:
    broken = []
    for steps in STEPS:
        levels = noise.inference_levels(steps, tokens)
        end = 0.0
        if noise.spec.kind == "edm":  # which may end at its smallest sigma
            end = float(Reference(noise, config, steps, tokens).scheduler.sigmas[len(levels) - 1])
        broken += [
            f"step {i} of {steps}" for i, rise in enumerate(levels.diff()) if not rise <= ROUNDING * end
        ]
        broken += [f"the end of {steps}"] if abs(float(levels[-1]) - end) > ROUNDING else []
    return FALL.count_frames(
        broken, where="", how=f"steps at which they do not, in rollouts of {_steps()} steps"
    )


def _begins(noise: Noise, config: Mapping[str, Any], tokens: int) -> Claim:
    def off(steps: int) -> float:
        reference, (eps,) = Reference(noise, config, steps, tokens), _random(1)
        expected = reference.first(eps)
        if noise.spec.kind == "ddpm":
            expected = reference.input(expected, 0)
        return _relative(noise.sampler(steps, tokens).start(eps), expected)

    return BEGINS.result(
        nan_max(map(off, STEPS)),
        allowed=ROUNDING,
        how=f"largest difference of the first frames, over their size, in rollouts of {_steps()} steps",
    )


def _added(noise: Noise, config: Mapping[str, Any], tokens: int) -> Claim:
    def off(steps: int) -> float:
        reference = Reference(noise, config, steps, tokens)
        clean, eps = _random(2)
        differences = []
        for i, level in enumerate(noise.inference_levels(steps, tokens)[: reference.steps]):
            # Level 0 is exactly clean here, a table's first entry not quite; between entries Euler's rule decides.
            if noise.spec.kind == "ddpm" and (level == 0 or level != level.round()):
                continue
            now = _level(level)
            found = noise.model_input(noise.add_noise(clean, eps, now), now)
            scale = noise.scale(now[0, 0]) if hasattr(noise, "scale") else 1.0
            differences.append(_relative(found, reference.noisy(scale * clean, eps, i)))
        return nan_max(differences)

    return ADDED.result(
        nan_max(map(off, STEPS)),
        allowed=ROUNDING,
        how="largest difference in what the base is given, over its size, at the levels of rollouts of "
        f"{_steps()} steps",
    )


def _split(noise: Noise, tokens: int) -> Claim:
    clean, eps = _random(2)
    differences = []
    for level in noise.inference_levels(STEPS[0], tokens):
        now = _level(level)
        if level == 0 and noise.spec.prediction == "sample":
            continue  # nothing is said about noise that is not there
        noisy, output = noise.add_noise(clean, eps, now), noise.target(clean, eps, now)
        found = noise.to_clean_and_noise(output, noisy, now)
        alpha = float(noise.alpha_sigma(now)[0][0, 0])
        pairs = [(found[0], clean), (found[1], eps)][0 if alpha else 1 :]
        differences += [_relative(one, other) for one, other in pairs]
    return SPLIT.result(
        nan_max(differences),
        allowed=ROUNDING,
        how="largest difference, over the largest value, at every level",
    )


def _stepped(noise: Noise, config: Mapping[str, Any], tokens: int) -> Claim:
    def off(steps: int) -> float:
        reference, sampler = Reference(noise, config, steps, tokens), noise.sampler(steps, tokens)
        outputs = _random(reference.steps)
        (ours,) = _random(1)
        theirs, differences = reference.unscaled(ours, 0), []
        for i, output in enumerate(outputs):
            ours, theirs = sampler.step(output, ours, i), reference.step(output, theirs, i)
            last = i == reference.steps - 1
            seen = theirs if last or noise.spec.kind != "ddpm" else reference.input(theirs, i + 1)
            differences.append(_relative(ours, seen))
        return nan_max(differences)

    return STEPPED.result(
        nan_max(map(off, STEPS)),
        allowed=ROUNDING,
        how=f"largest difference of the frames, over their size, in rollouts of {_steps()} steps, on random outputs",
    )


def _recovered(noise: Noise, config: Mapping[str, Any], tokens: int) -> Claim:
    reference = Reference(noise, config, STEPS[1], tokens)
    levels = noise.inference_levels(STEPS[1], tokens)
    clean, eps = _random(2)
    frames = reference.unscaled(noise.add_noise(clean, eps, _level(levels[0])), 0)
    for i in range(reference.steps):
        now = _level(levels[i])
        # A perfect model knows the clean frames, and takes whatever else there is for noise.
        seen = reference.input(frames, i) if noise.spec.kind == "ddpm" else frames
        alpha, sigma = (float(x[0, 0]) for x in noise.alpha_sigma(now))
        left = (seen - alpha * clean) / sigma if sigma else torch.zeros_like(clean)
        frames = reference.step(noise.target(clean, left, now), frames, i)
    return RECOVERED.result(
        float((frames - clean).std() / clean.std()),
        allowed=LEFT_OVER,
        how=f"what is left of the noise, over the clean frames' size, after {STEPS[1]} steps",
    )


def _random(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)


def _level(level: Tensor) -> Tensor:
    return torch.full(SHAPE[:2], float(level), dtype=torch.float64)


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def _steps() -> str:
    return " and ".join(map(str, STEPS))


def scheduler_of(source: Source, noise: Noise) -> dict[str, Any] | None:
    """The config of the folder's scheduler; without one, the plan's, or what the kind of noise takes for granted."""
    if source.scheduler is not None:
        return source.scheduler
    if "_class_name" in noise.spec.scheduler:
        return noise.spec.scheduler
    built: Any = getattr(noise, "scheduler", None)
    return None if built is None else {**built.config, "_class_name": type(built).__name__}


def _measure(context: VerifyContext) -> list[Claim]:
    world = context.world
    config = scheduler_of(context.source, world.noise)
    return measure_noise(world.noise, config, world.clip_tokens(*latent_size(world)))


CHECKS = (Check("noise", SPECS, WORLD, _measure, Cost()),)

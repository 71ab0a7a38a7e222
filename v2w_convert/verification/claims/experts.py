"""Of two denoisers, each is asked in its range of noise levels, as the pipeline's own rule has it.

Every other claim about such a model is measured on each of the two alone.
"""

from typing import Any

import torch
from torch import Tensor

from v2w_convert.checkpoint.experts import BOUNDARY
from v2w_convert.noise import Noise
from v2w_convert.operations.base import max_abs_diff
from v2w_convert.strict_json import read_object
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import Inputs, latent_size, random_inputs, slice_of
from v2w_convert.verification.engine.phases import EXPERTS, Cost
from v2w_convert.verification.report.fixes import CONVERT_AGAIN, fix_text
from v2w_convert.world.experts import ExpertsWorld
from v2w_convert.world.rollout import Sampling

ALLOWED = 1e-9  # of the output's largest value, float64
STEPS = 4  # of the rollout
HALVINGS = 64  # of the range of levels, to find the boundary

CHOICE = ClaimSpec(
    "experts-boundary",
    "experts",
    "Each frame is predicted by the denoiser that the pipeline asks at its noise level",
    fix=fix_text(CONVERT_AGAIN),
)
ROLLOUT = ClaimSpec(
    "experts-in-range",
    "experts",
    "A rollout asks each denoiser for predictions in its range of noise levels only, and shows both the history",
    fix=fix_text(CONVERT_AGAIN),
)
STREAM = ClaimSpec(
    "experts-stream",
    "experts",
    "Streaming with both denoisers gives the same output as one pass over the whole clip",
    fix=fix_text(CONVERT_AGAIN),
)


def measure_experts(world: ExpertsWorld, limit: float) -> list[Claim]:
    """Measure which denoiser is asked, in a clip, in a rollout and in a stream.

    Args:
        world: Float64.
        limit: The told timestep from which on the pipeline asks the high-noise denoiser.
    """
    edge = boundary_levels(world.noise, limit)
    levels = [world.noise.max_level, *edge.flip(0).tolist(), 0.0]
    inputs = _inputs(world, levels)
    high = _is_high(world.noise, inputs["noise_level"], limit)
    output = world(**inputs)
    return [
        _measure_choice(world, inputs, high, output),
        _measure_rollout(world, limit),
        _measure_stream(world, inputs, output),
    ]


def boundary_levels(noise: Noise, limit: float) -> Tensor:
    """Return the largest level below the boundary and the smallest one from it on, (2,) float32, by halving."""
    low, high = torch.tensor(0.0), torch.tensor(noise.max_level)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _is_high(noise, middle.view(1, 1), limit).item():
            high = middle
        else:
            low = middle
    return torch.stack([low, high])


def _is_high(noise: Noise, level: Tensor, limit: float) -> Tensor:
    """Whether the pipeline asks the high-noise denoiser: `t >= boundary_timestep`."""
    return noise.timestep(level) >= limit


def _inputs(world: ExpertsWorld, levels: list[float]) -> Inputs:
    """One clip with a block at each of the levels; a longer one, where the base takes one length only, repeats them."""
    n = world.frames_per_block
    t = world.resolved.frames(len(levels) * n)
    inputs = random_inputs(world.high, 1, t, seed=0)
    repeated = (levels * t)[: t // n]
    return inputs | {"noise_level": torch.tensor([repeated]).repeat_interleave(n, 1)}


def _measure_choice(world: ExpertsWorld, inputs: Inputs, high: Tensor, output: Tensor) -> Claim:
    expected = torch.where(high[..., None, None, None], world.high(**inputs), world.low(**inputs))
    wrong = (output != expected).flatten(2).any(2)[0]
    broken = [f"frame {frame}" for frame in wrong.nonzero().flatten().tolist()]
    levels = ", ".join(f"{level:.7g}" for level in dict.fromkeys(inputs["noise_level"][0].tolist()))
    return CHOICE.count_frames(
        broken,
        "",
        f"frames, of {len(wrong)}, whose prediction is not that of the denoiser by model_index.json, bit for bit; noise "
        f"levels {levels}: the ends, and the two next to the boundary",
    )


def _measure_rollout(world: ExpertsWorld, limit: float) -> Claim:
    calls: list[tuple[str, bool, Tensor]] = []
    for name, expert in world.experts.items():
        expert.forward_streamed = _recorder(calls, name, expert.forward_streamed)  # type: ignore[method-assign]
    try:
        stream = world.stream(
            1, *latent_size(world.high), sampling=Sampling(steps=STEPS), window=_window(world)
        )
        stream.observe(_inputs(world, [0.0])["latents"][:, : world.frames_per_block])
        stream.step_block()
    finally:
        for expert in world.experts.values():
            del expert.forward_streamed
    asked = [(name, level) for name, commit, level in calls if not commit]
    wrong = [
        name
        for name, level in asked
        if not bool((_is_high(world.noise, level, limit) == (name == "high")).all())
    ]
    committed = [name for name, commit, _ in calls if commit]
    missed = abs(committed.count("high") - committed.count("low")) + 2 * (not committed)
    idle = [name for name in world.experts if name not in dict(asked)]
    return ROLLOUT.result(
        float(len(wrong) + missed + len(idle)),
        how=f"of {len(asked)} passes that denoise, in {STEPS} steps: {len(wrong)} outside of the range; of "
        f"{len(committed)} passes that commit: {missed} that one of the two has not seen"
        + "".join(f"; the {name}-noise denoiser was never asked" for name in idle),
    )


def _recorder(calls: list[tuple[str, bool, Tensor]], name: str, run: Any) -> Any:
    def recorded(state: Any, latents: Tensor, level: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append((name, kwargs.get("commit", False), level))
        return run(state, latents, level, *args, **kwargs)

    return recorded


def _measure_stream(world: ExpertsWorld, inputs: Inputs, expected: Tensor) -> Claim:
    n, t = world.frames_per_block, expected.shape[1]
    state = world.empty_state(1, *latent_size(world.high), window=_window(world, t))
    largest = 0.0
    for start in range(0, t, n):
        part, wanted = slice_of(inputs, start, start + n, world.high), expected[:, start : start + n]
        draft, state = world.forward_streamed(state, **part, commit=False)
        output, state = world.forward_streamed(state, **part, commit=True)
        largest = max(largest, max_abs_diff(draft, wanted), max_abs_diff(output, wanted))
    return STREAM.result(
        largest / float(expected.abs().max()),
        allowed=ALLOWED,
        how=f"largest difference over the output's largest value, {t} frames, noise levels of both ranges, committed and "
        "not; float64; zero-initialised layers randomised",
    )


def _window(world: ExpertsWorld, t: int = 2) -> int | None:
    return None if world.resolved.window else t * world.frames_per_block


def _measure(context: VerifyContext) -> list[Claim]:
    folder = context.converted
    scheduler = folder / "scheduler" / "scheduler_config.json"
    config = read_object(scheduler, infinity=True) if scheduler.is_file() else {}
    boundary = context.origin.boundary if context.origin is not None else None
    if boundary is None:
        boundary = read_object(folder / "model_index.json")[BOUNDARY]
    return measure_experts(context.experts, boundary * config.get("num_train_timesteps", 1000))


CHECKS = (
    Check(
        "two experts",
        (CHOICE, ROLLOUT, STREAM),
        EXPERTS,
        _measure,
        Cost(passes=4, reads=24),
        applies=lambda context: context.source.low_noise is not None,
        whole=True,
    ),
)

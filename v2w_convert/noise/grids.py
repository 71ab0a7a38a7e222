"""What a family's own pipeline gives its scheduler for a rollout's levels."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from v2w_convert.errors import V2WError

Grid = Literal["scheduler", "linear", "linear_quadratic"]

# What pipelines take for settings that a scheduler does not have (diffusers' `calculate_shift`).
SHIFT = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
THRESHOLD = 0.025  # Mochi's: how far the linear half of its steps goes


def linear(steps: int) -> list[float]:
    """From 1 down to 1 / steps, evenly (LTX-Video, HunyuanVideo)."""
    return [float(sigma) for sigma in np.linspace(1.0, 1 / steps, steps)]


def linear_quadratic(steps: int) -> list[float]:
    """Half of the steps short and even, the others growing with the square (Mochi, arXiv 2410.13720).

    As in github.com/genmoai/models, src/mochi_preview/infer.py, which needs two steps at least.
    """
    half = steps // 2
    if half == 0:
        return [1.0]
    rest = steps - half
    ahead = half - THRESHOLD * steps
    square, slope = ahead / (half * rest**2), THRESHOLD / half - 2 * ahead / rest**2
    quadratic = [square * i**2 + slope * i + square * half**2 for i in range(half, steps)]
    return [1 - share for share in [i * THRESHOLD / half for i in range(half)] + quadratic]


GRIDS: dict[Grid, Callable[[int], list[float] | None]] = {
    "scheduler": lambda steps: None,  # the pipeline gives the number of steps only
    "linear": linear,
    "linear_quadratic": linear_quadratic,
}


def timesteps_arguments(
    grid: Grid, mu: float | None, config: Mapping[str, Any], steps: int, tokens: int | None
) -> dict[str, Any]:
    """The arguments of the scheduler's `set_timesteps`.

    Args:
        grid: Which sigmas the pipeline gives.
        mu: Which shift it gives a scheduler with `use_dynamic_shifting`; None: by the number of tokens.
        config: Of the scheduler.
        steps: Denoising steps.
        tokens: Latent tokens of a clip.

    Raises:
        V2WError: The scheduler needs `tokens`.
    """
    sigmas = GRIDS[grid](steps)
    given: dict[str, Any] = {"num_inference_steps": steps} if sigmas is None else {"sigmas": sigmas}
    if config.get("use_dynamic_shifting", False):
        given["mu"] = _shift_by_tokens(config, tokens) if mu is None else mu
    return given


def _shift_by_tokens(config: Mapping[str, Any], tokens: int | None) -> float:
    """The logarithm of the levels' shift: a line through two numbers of tokens."""
    if tokens is None:
        raise V2WError(
            "set the noise levels of a rollout",
            "its scheduler shifts them by the number of latent tokens, which is not known",
            "inference_levels(steps, tokens)",
        )
    least, most, base, largest = (float(config.get(key, usual)) for key, usual in SHIFT.items())
    return base + (largest - base) / (most - least) * (tokens - least)

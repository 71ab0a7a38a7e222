"""The sigmas that a family's own pipeline gives its flow scheduler, which shifts them."""

from collections.abc import Callable
from typing import Literal

import numpy as np

Grid = Literal["scheduler", "linear", "linear_quadratic"]
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

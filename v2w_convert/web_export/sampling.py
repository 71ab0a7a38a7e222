"""A sampler as a table: what a program without torch needs to denoise a frame.

Every step of DDIM and Euler is `a · noisy + b · output`, with numbers that depend on the step alone. They are found by asking
the sampler itself, in float64, so that no formula is written twice.
"""

from typing import Any

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.noise import Noise
from v2w_convert.noise.sampler import LineSampler, SolverSampler

CHOICES = (1, 2, 3, 4, 6, 8, 10)  # denoising steps that a page offers


def step_tables(noise: Noise, steps: int, tokens: int) -> dict[str, dict[str, Any]]:
    """By number of steps: `first`, the factor of a frame's first noise, and `steps`, [level, a, b] of each.

    Args:
        noise: The model's noise.
        steps: A number of steps that must be there; of the others those that the schedule allows.
        tokens: Latent tokens of a clip.

    Raises:
        V2WError: The solver remembers steps, or clips what it finds.
    """
    found = {}
    for count in sorted({*CHOICES, steps}):
        try:
            noise.check_sampling(count)
        except V2WError:
            if count == steps:
                raise
            continue
        found[str(count)] = _table(noise, count, tokens)
    return found


def history_table(noise: Noise, level: float) -> dict[str, float]:
    """How history is given: its `level`, and the factors of the `clean` frame and of the `noise`."""
    one, zero = (
        torch.ones(1, 1, 1, 1, 1, dtype=torch.float64),
        torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64),
    )
    levels = torch.full((1, 1), level)
    clean, random = noise.add_noise(one, zero, levels), noise.add_noise(zero, one, levels)
    return {"level": level, "clean": float(clean), "noise": float(random)}


def _table(noise: Noise, steps: int, tokens: int) -> dict[str, Any]:
    sampler = noise.sampler(steps, tokens)
    asked = "export a page"
    if isinstance(sampler, SolverSampler):
        found = (
            f"its scheduler, {type(sampler.scheduler).__name__}, remembers steps; a page has DDIM and Euler"
        )
        raise V2WError(asked, found, "v2w rollout")
    if isinstance(sampler, LineSampler) and sampler.line.clip is not None:
        raise V2WError(
            asked, "its scheduler clips samples (clip_sample), which a page does not", "v2w rollout"
        )
    one = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    zero: Tensor = torch.zeros_like(one)
    rows = [
        [level, float(sampler.step(zero, one, i)), float(sampler.step(one, zero, i))]
        for i, level in enumerate(sampler.levels[:-1].tolist())
    ]
    return {"first": float(sampler.start(one)), "steps": rows}

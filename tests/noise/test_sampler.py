"""Beside diffusers' own scheduler of every released config, driven as the family's pipeline drives it."""

from typing import Any

import diffusers
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from tests.noise.released import ALLEGRO, RELEASED, STEPS, TOKENS, Release
from tests.tiny import tiny_plan
from v2w_convert.noise import Noise, NoiseSpec, noise_spec_from_scheduler

SHAPE = (1, 2, 3, 4, 4)  # b t c h w


def own(config: dict[str, Any], given: dict[str, Any] | None = None) -> Any:
    """diffusers' scheduler, its timesteps set."""
    scheduler: Any = getattr(diffusers, config["_class_name"]).from_config(config)
    scheduler.set_timesteps(
        **({"num_inference_steps": STEPS} if "sigmas" not in (given or {}) else {}), **(given or {})
    )
    return scheduler


def noise_of(release: Release) -> Noise:
    return noise_spec_from_scheduler(release.config, tiny_plan(release.plan).noise).build()


def told(scheduler: Any) -> Tensor:
    return torch.as_tensor(scheduler.timesteps).double()


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """Within a millionth of the largest number."""
    size = theirs.abs().max()
    torch.testing.assert_close(ours / size, theirs / size, rtol=0, atol=1e-6)


def assert_samples_like(noise: Noise, scheduler: Any, first: float | None = None) -> None:
    """Levels, told numbers, inputs of the base, and every frame of a rollout."""
    sampler = noise.sampler(STEPS, TOKENS)
    assert torch.equal(sampler.levels, noise.inference_levels(STEPS, TOKENS))
    levels = sampler.levels[:-1].reshape(-1, 1)
    torch.testing.assert_close(noise.timestep(levels)[:, 0].double(), told(scheduler), rtol=1e-6, atol=6e-5)
    generator = torch.Generator().manual_seed(0)
    begin = torch.randn(SHAPE, generator=generator)
    ours = sampler.start(begin)
    init = float(scheduler.init_noise_sigma) if hasattr(scheduler, "init_noise_sigma") else 1.0
    theirs = begin * (init if first is None else first)
    for i, t in enumerate(scheduler.timesteps):
        given = theirs
        if hasattr(scheduler, "scale_model_input"):
            given = scheduler.scale_model_input(theirs, t)
        level = torch.full(SHAPE[:2], float(sampler.levels[i]))
        assert_near(noise.model_input(ours, level), given)
        output = torch.randn(SHAPE, generator=generator)
        theirs = scheduler.step(output, t, theirs).prev_sample
        ours = sampler.step(output, ours, i)
    assert_near(ours, theirs)


@pytest.mark.parametrize("name", RELEASED)
def test_it_samples_as_the_release_does(name: str) -> None:
    release = RELEASED[name]
    assert_samples_like(noise_of(release), own(release.config, release.given), release.first)

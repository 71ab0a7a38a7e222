"""Beside diffusers' own scheduler of every released config, driven as the family's pipeline drives it."""

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from tests.noise.released import ALLEGRO, EVEN, RELEASED, STEPS, TOKENS, Release
from tests.tiny import tiny_plan
from v2w_convert.errors import V2WError
from v2w_convert.noise import Noise, noise_spec_from_scheduler

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


def test_wan_has_the_levels_of_its_shift() -> None:
    levels = noise_of(RELEASED["wan 2.1"]).inference_levels(10)
    expected = [1, 0.964, 0.923, 0.875, 0.818, 0.75, 0.667, 0.563, 0.43, 0.252, 0]
    assert levels.tolist() == pytest.approx(expected, abs=6e-4)


def test_ltx_shifts_by_the_tokens_of_the_clip() -> None:
    noise = noise_of(RELEASED["ltx-video 0.9.0"])
    for tokens, mu in ((1024, 0.95), (2560, 1.5), (4096, 2.05)):
        scheduler = own(RELEASED["ltx-video 0.9.0"].config, {"sigmas": EVEN, "mu": mu})
        assert torch.equal(noise.inference_levels(STEPS, tokens), scheduler.sigmas)
    with pytest.raises(V2WError, match="number of latent tokens"):
        noise.inference_levels(STEPS)


def test_cogvideox_2b_has_the_table_of_its_own_class() -> None:
    alpha, _ = noise_of(RELEASED["cogvideox-2b"]).alpha_sigma(torch.tensor([[500.0]]))
    assert alpha.item() == pytest.approx(0.309, abs=5e-4)  # without snr_shift_scale 0.491


def test_a_perfect_mochi_recovers_the_clip() -> None:
    """It is told the share of the frame and predicts the way to it, which grows along the rollout."""
    noise = noise_of(RELEASED["mochi"])
    clean, eps = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    level = torch.full(SHAPE[:2], 0.6, dtype=torch.float64)
    torch.testing.assert_close(noise.target(clean, eps, level), clean - eps)
    torch.testing.assert_close(noise.timestep(level), torch.full_like(level, 400.0))
    sampler = noise.sampler(STEPS)
    assert (sampler.levels.diff() < 0).all()
    frame = sampler.start(eps)
    for i in range(STEPS):
        frame = sampler.step(clean - eps, frame, i)
    torch.testing.assert_close(frame, clean)


@pytest.mark.parametrize("name", [*RELEASED, "allegro"])
def test_a_perfect_model_recovers_the_clip(name: str) -> None:
    release = RELEASED.get(name, Release("allegro", ALLEGRO))
    noise = noise_of(release)
    sampler = noise.sampler(STEPS, TOKENS)
    clean, eps = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    frame = noise.add_noise(clean, eps, torch.full(SHAPE[:2], float(sampler.levels[0]), dtype=torch.float64))
    for i, level in enumerate(sampler.levels[:-1]):
        now = torch.full(SHAPE[:2], float(level), dtype=torch.float64)
        alpha, sigma = (x[..., None, None, None] for x in noise.alpha_sigma(now))
        seen = torch.where(sigma == 0, 0, (frame - alpha * clean) / sigma)
        frame = sampler.step(noise.target(clean, seen, now), frame, i)
    # Some end one entry of their table above clean. AnimateDiff goes down by 100 timesteps on a grid of 111.
    assert (frame - clean).std() < (0.15 if name == "animatediff" else 0.04)


def test_allegro_is_sampled_without_the_noise_that_its_scheduler_adds() -> None:
    noise = noise_of(Release("allegro", ALLEGRO))
    assert_samples_like(noise, own({**ALLEGRO, "_class_name": "EulerDiscreteScheduler"}))
    ancestral = own(ALLEGRO)
    assert noise.inference_levels(STEPS)[:-1].tolist() == ancestral.timesteps.tolist()


RANDOM = {
    "DDPMScheduler": {"variance_type": "learned", "prediction_type": "v_prediction"},
    "PNDMScheduler": {"skip_prk_steps": True, "steps_offset": 1},
    "CogVideoXDPMScheduler": {"snr_shift_scale": 3.0, "rescale_betas_zero_snr": True},
    "EulerAncestralDiscreteScheduler": {"beta_schedule": "scaled_linear"},
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_sampled_as_another_class_has_its_own_table(name: str) -> None:
    config = {**RANDOM[name], "_class_name": name}
    noise = noise_spec_from_scheduler(config).build()
    scheduler: Any = getattr(diffusers, name).from_config(config)
    levels = torch.arange(1.0, 1000.0, dtype=torch.float64)[None]
    table = scheduler.alphas_cumprod.double()[1:]
    for found, expected in zip(noise.alpha_sigma(levels), (table.sqrt(), (1 - table).sqrt()), strict=True):
        assert torch.equal(found[0], expected)


def test_whole_timesteps_pass_gradients_on() -> None:
    noise = noise_of(RELEASED["wan 2.1"])
    levels = torch.rand(1, 10_000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    told = noise.timestep(levels)
    assert torch.equal(told, (levels * 1000).floor())
    told.sum().backward()
    assert levels.grad is not None and (levels.grad == 1000).all()


def test_two_blocks_are_denoised_apart() -> None:
    """A multistep solver remembers the outputs of its own block only."""
    noise = noise_of(RELEASED["wan 2.1"])
    outputs = torch.randn(STEPS, *SHAPE, generator=torch.Generator().manual_seed(2))
    one, other = noise.sampler(STEPS), noise.sampler(STEPS)
    frames = [one.start(outputs[0]), other.start(outputs[0])]
    for i in range(STEPS):
        frames = [one.step(outputs[i], frames[0], i), other.step(outputs[i], frames[1], i)]
    assert torch.equal(*frames)

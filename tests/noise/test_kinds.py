from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from pydantic import ValidationError

from v2w_convert.noise import Noise, NoiseSpec, noise_spec_from_scheduler

SPECS = [
    *(NoiseSpec(kind="ddpm", prediction=p) for p in ("epsilon", "v", "sample")),
    *(NoiseSpec(kind="ddpm", prediction=p, base_scale=0.3) for p in ("epsilon", "v", "sample")),
    *(NoiseSpec(kind="edm", prediction=p) for p in ("epsilon", "v", "edm")),
    NoiseSpec(kind="flow", prediction="flow"),
]
SHAPE = (2, 3, 4, 5, 6)  # b t c h w


def spec_of(scheduler: Any) -> NoiseSpec:
    return noise_spec_from_scheduler({**scheduler.config, "_class_name": type(scheduler).__name__})


def sample(noise: Noise) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, eps = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))
    return clean, eps, noise.sample_training_levels(SHAPE[:2], generator).double()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}-{s.prediction}-{s.base_scale}")
def test_splitting_the_target_gives_back_frame_and_noise(spec: NoiseSpec) -> None:
    noise = spec.build()
    clean, eps, level = sample(noise)
    noisy = noise.add_noise(clean, eps, level)
    found = noise.to_clean_and_noise(noise.target(clean, eps, level), noisy, level)
    for one, other in zip(found, (clean, eps), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}-{s.prediction}-{s.base_scale}")
def test_level_zero_is_clean(spec: NoiseSpec) -> None:
    noise = spec.build()
    clean, eps, _ = sample(noise)
    assert torch.equal(noise.add_noise(clean, eps, torch.zeros(SHAPE[:2])), clean)
    assert torch.isfinite(noise.timestep(torch.zeros(SHAPE[:2]))).all()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}-{s.prediction}-{s.base_scale}")
def test_each_frame_has_its_own_level(spec: NoiseSpec) -> None:
    noise = spec.build()
    clean, eps, level = sample(noise)
    together = noise.add_noise(clean, eps, level)
    for t in range(SHAPE[1]):
        assert torch.equal(
            together[:, t : t + 1],
            noise.add_noise(clean[:, t : t + 1], eps[:, t : t + 1], level[:, t : t + 1]),
        )


def test_a_sampling_step_is_ddim_without_eta() -> None:
    config = {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    scheduler = DDIMScheduler(clip_sample=False, **config)
    noise = spec_of(scheduler).build()
    levels = noise.inference_levels(10)
    scheduler.set_timesteps(10)
    clean, output, _ = sample(noise)
    for level, following in zip(levels[:-2], levels[1:-1], strict=True):
        here = torch.full(SHAPE[:2], float(level))
        ours = noise.add_noise(
            *noise.to_clean_and_noise(output, clean, here), torch.full_like(here, float(following))
        )
        theirs = scheduler.step(output, int(level), clean).prev_sample
        # diffusers keeps its table in float32
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_sampling_step_is_euler_for_edm() -> None:
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0,
        use_karras_sigmas=True,
    )  # fmt: skip
    noise = spec_of(scheduler).build()
    assert noise.spec.kind == "edm"
    scheduler.set_timesteps(8)
    levels = noise.inference_levels(8)
    clean, output, _ = sample(noise)
    noisy = clean * float(levels[0])
    here, following = (torch.full(SHAPE[:2], float(x)).double() for x in levels[:2])
    expected_input = scheduler.scale_model_input(noisy, scheduler.timesteps[0])
    torch.testing.assert_close(noise.model_input(noisy, here), expected_input, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(noise.timestep(here)[0, 0].float(), scheduler.timesteps[0].float())
    ours = noise.add_noise(*noise.to_clean_and_noise(output, noisy, here), following)
    theirs = scheduler.step(output, scheduler.timesteps[0], noisy).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)  # sigma is 700 in float32


def test_a_sampling_step_is_euler_for_flow() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    noise = spec_of(scheduler).build()
    assert (noise.spec.kind, noise.spec.prediction) == ("flow", "flow")
    scheduler.set_timesteps(8)
    levels = noise.inference_levels(8)
    noisy, output, _ = sample(noise)
    here, following = (torch.full(SHAPE[:2], float(x)).double() for x in levels[2:4])
    scheduler._step_index = 2
    ours = noise.add_noise(*noise.to_clean_and_noise(output, noisy, here), following)
    theirs = scheduler.step(output, scheduler.timesteps[2], noisy).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}-{s.prediction}-{s.base_scale}")
def test_sampling_levels_fall_to_zero(spec: NoiseSpec) -> None:
    levels = spec.build().inference_levels(7)
    assert len(levels) == 8
    assert levels[-1] == (0.002 if spec.prediction == "edm" else 0)  # Cosmos ends at its smallest sigma
    assert (levels.diff()[:-1] < 0).all() and levels.diff()[-1] <= 0


ZERO_SNR = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "rescale_betas_zero_snr": True,
}


@pytest.mark.parametrize("base", [0.7, 0.3])
def test_clean_frames_are_scaled_as_in_dynamicrafter(base: float) -> None:
    """Noise and target by the formulas of its ddpm3d.py, the scales from its table."""
    noise = NoiseSpec(kind="ddpm", prediction="v", base_scale=base, scheduler=ZERO_SNR).build()
    table = torch.from_numpy(np.concatenate([np.linspace(1.0, base, 400), np.full(1000, base)]))
    alphas_cumprod = noise.scheduler.alphas_cumprod.double()  # type: ignore[attr-defined]
    clean, eps, _ = sample(noise)
    for t in (1, 39, 399, 400, 998, 999):
        level = torch.full(SHAPE[:2], float(t), dtype=torch.float64)
        scaled, alpha, sigma = table[t] * clean, alphas_cumprod[t].sqrt(), (1 - alphas_cumprod[t]).sqrt()
        close = {"rtol": 1e-12, "atol": 1e-12}  # the same sums in another order, float64
        noisy, target = noise.add_noise(clean, eps, level), noise.target(clean, eps, level)
        torch.testing.assert_close(noisy, alpha * scaled + sigma * eps, **close)
        torch.testing.assert_close(target, alpha * eps - sigma * scaled, **close)
        for found, expected in zip(noise.to_clean_and_noise(target, noisy, level), (clean, eps), strict=True):
            torch.testing.assert_close(found, expected, **close)


def test_a_sampling_step_with_scaled_frames_is_dynamicrafters() -> None:
    """Its ddim.py with eta 0: what was found clean is brought from one level's scale to the next one's."""
    noise = NoiseSpec(kind="ddpm", prediction="v", base_scale=0.7, scheduler=ZERO_SNR).build()
    table = torch.from_numpy(np.concatenate([np.linspace(1.0, 0.7, 400), np.full(1000, 0.7)]))
    alphas_cumprod = noise.scheduler.alphas_cumprod.double()  # type: ignore[attr-defined]
    noisy, output, _ = sample(noise)
    for level, following in ((999, 799), (399, 199), (199, 19)):
        alpha, sigma = alphas_cumprod[level].sqrt(), (1 - alphas_cumprod[level]).sqrt()
        found, eps = alpha * noisy - sigma * output, alpha * output + sigma * noisy
        found = found * table[following] / table[level]
        expected = alphas_cumprod[following].sqrt() * found + (1 - alphas_cumprod[following]).sqrt() * eps
        here, there = (torch.full(SHAPE[:2], float(x), dtype=torch.float64) for x in (level, following))
        ours = noise.add_noise(*noise.to_clean_and_noise(output, noisy, here), there)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_scaled_frames_are_of_timesteps_only() -> None:
    with pytest.raises(ValidationError, match="base_scale is of kind ddpm"):
        NoiseSpec(kind="flow", prediction="flow", base_scale=0.7)
    assert noise_spec_from_scheduler({"_class_name": "DDIMScheduler", "base_scale": 0.7}) == NoiseSpec(
        kind="ddpm", prediction="epsilon", base_scale=0.7, scheduler={"_class_name": "DDIMScheduler"}
    )


def test_zero_terminal_snr_leaves_nothing_at_the_largest_level() -> None:
    spec = NoiseSpec(kind="ddpm", prediction="v", scheduler={"rescale_betas_zero_snr": True})
    noise = spec.build()
    alpha, sigma = noise.alpha_sigma(torch.tensor([[noise.max_level]]))
    assert alpha.item() == 0
    assert sigma.item() == 1


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}-{s.prediction}-{s.base_scale}")
def test_half_precision_survives_the_largest_level(spec: NoiseSpec) -> None:
    noise = spec.build()
    clean, eps, _ = sample(noise)
    level = torch.full(SHAPE[:2], noise.max_level * 0.999)
    noisy = noise.add_noise(clean, eps, level)
    given = noise.model_input(noisy.half(), level)
    torch.testing.assert_close(given.double(), noise.model_input(noisy, level), rtol=2e-3, atol=2e-3)
    assert all(
        torch.isfinite(x).all() and x.any() for x in noise.to_clean_and_noise(eps.half(), noisy.half(), level)
    )


def test_edms_skip_connection_is_the_schedulers() -> None:
    """As Cosmos has it: data of standard deviation 0.5."""
    scheduler = EDMEulerScheduler(sigma_data=0.5)
    noise = spec_of(scheduler).build()
    assert noise.spec.prediction == "edm"
    noisy, output, _ = sample(noise)
    sigma = torch.tensor(3.0, dtype=torch.float64)
    level = sigma.expand(SHAPE[:2])
    close = {"rtol": 1e-12, "atol": 1e-12}
    expected = scheduler.precondition_inputs(noisy, sigma)
    torch.testing.assert_close(noise.model_input(noisy, level), expected, **close)
    expected = scheduler.precondition_outputs(noisy, output, sigma)
    torch.testing.assert_close(noise.to_clean_and_noise(output, noisy, level)[0], expected, **close)
    assert torch.allclose(noise.timestep(level), scheduler.precondition_noise(sigma).double())

"""Every setting of every served scheduler counts, is known not to, or is refused by name."""

import inspect
from typing import Any

import diffusers
import pytest
import torch

from tests.noise.released import RELEASED
from tests.noise.test_sampler import STEPS, TOKENS, assert_samples_like
from tests.tiny import tiny_plan
from v2w_convert.errors import V2WError
from v2w_convert.noise import NoiseSpec, check_sampling, noise_spec_from_scheduler
from v2w_convert.noise.schedulers import SERVED, build_scheduler


@pytest.mark.parametrize("name", SERVED)
def test_every_setting_of_the_class_is_known(name: str) -> None:
    """So that a setting which a new release of diffusers adds is not ignored in silence."""
    entry = SERVED[name]
    settings = inspect.signature(getattr(diffusers, name).__init__).parameters.keys() - {"self"}
    assert settings == entry.honoured | entry.harmless | entry.only.keys()
    assert not entry.honoured & entry.harmless
    assert not entry.harmless & entry.only.keys()


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
BETAS = torch.linspace(1e-4, 0.01, 1000).tolist()
OTHER: dict[str, Any] = {
    "num_train_timesteps": 500,
    "beta_start": 0.0002,
    "beta_end": 0.01,
    "beta_schedule": "squaredcos_cap_v2",
    "trained_betas": BETAS,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
    "clip_sample_range": 0.5,
    "set_alpha_to_one": False,
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 2.0,
    "interpolation_type": "log_linear",
    "sigma_min": 0.01,
    "sigma_max": 60.0,
    "timestep_type": "discrete",
    "final_sigmas_type": "sigma_min",
    "use_karras_sigmas": True,
    "use_exponential_sigmas": True,
    "use_lu_lambdas": True,
    "solver_order": 3,
    "algorithm_type": "deis",
    "solver_type": "heun",
    "lower_order_final": False,
    "euler_at_final": True,
    "flow_shift": 4.0,
    "use_flow_sigmas": True,
    "lambda_min_clipped": -3.0,
    "predict_x0": False,
    "disable_corrector": [0, 1],
    "time_shift_type": "linear",
    "shift_terminal": 0.05,
    "sigma_data": 0.7,
    "sigma_schedule": "exponential",
    "rho": 5.0,
    "shift": 2.0,
    "base_shift": 0.4,
    "max_shift": 1.3,
    "base_image_seq_len": 300,
    "max_image_seq_len": 5000,
    "invert_sigmas": True,
    "use_dynamic_shifting": True,
}
"""A value of each setting that is not the class's own."""
TOGETHER: dict[tuple[str, str], dict[str, Any]] = {
    ("EulerDiscreteScheduler", "sigma_min"): {"use_karras_sigmas": True},
    ("EulerDiscreteScheduler", "sigma_max"): {"use_karras_sigmas": True},
    ("UniPCMultistepScheduler", "sigma_min"): {"use_karras_sigmas": True, **FLOW},
    ("UniPCMultistepScheduler", "sigma_max"): {"use_karras_sigmas": True, **FLOW},
    ("UniPCMultistepScheduler", "solver_type"): {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
    **{("UniPCMultistepScheduler", key): {"final_sigmas_type": "sigma_min"} for key in ("lower_order_final", "predict_x0")},
    ("DPMSolverMultistepScheduler", "algorithm_type"): {"final_sigmas_type": "sigma_min"},
    ("UniPCMultistepScheduler", "time_shift_type"): {"use_dynamic_shifting": True, **FLOW},
    **{("UniPCMultistepScheduler", key): FLOW for key in ("flow_shift", "use_flow_sigmas", "shift_terminal", "use_dynamic_shifting")},
    **{("DPMSolverMultistepScheduler", key): FLOW for key in ("flow_shift", "use_flow_sigmas")},
}  # fmt: skip
"""What else has to be set for one to count."""
DYNAMIC = {"base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type"}
SETTINGS = [
    (name, key)
    for name, entry in SERVED.items()
    if entry.sampled_as is None
    for key in sorted(entry.honoured)
    if key != "use_beta_sigmas"  # needs scipy
]


def mu_of(scheduler: Any, spec: NoiseSpec) -> dict[str, float]:
    """What pipelines pass for dynamic shifting: `calculate_shift` of LTX-Video's."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting", False):
        return {}
    least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, largest = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (largest - base) / (most - least)
    return {"mu": TOKENS * slope + base - slope * least}


@pytest.mark.parametrize(("name", "key"), SETTINGS)
def test_every_honoured_setting_counts(name: str, key: str) -> None:
    more = TOGETHER.get((name, key), {})
    if name == "FlowMatchEulerDiscreteScheduler" and key in DYNAMIC:
        more = {"use_dynamic_shifting": True}
    config = {"_class_name": name, key: OTHER[key], **more}
    if name == "EDMEulerScheduler" and key == "prediction_type":
        return  # one value is served
    if name == "EulerDiscreteScheduler" and key == "timestep_type":
        config = {**RELEASED["svd"].config}
    spec = noise_spec_from_scheduler(config)
    scheduler: Any = getattr(diffusers, name).from_config(config)
    scheduler.set_timesteps(STEPS, **mu_of(scheduler, spec))
    first = scheduler.config.sigma_max if name == "EDMEulerScheduler" else None
    noise = spec.build()
    if getattr(noise, "inverted", False):
        scheduler.scale_model_input = lambda frames, t: frames
    assert_samples_like(noise, scheduler, first)


REFUSED = {
    "a distilled model's class": ({"_class_name": "SCMScheduler"}, "SCMScheduler"),
    "a class of its own": ({"_class_name": "MyScheduler"}, "MyScheduler"),
    "no class": ({"beta_start": 0.1}, "no _class_name"),
    "a list for a class": ({"_class_name": ["DDIMScheduler"]}, "whose noise is not known"),
    "thresholding": ({"_class_name": "DDIMScheduler", "thresholding": True}, "thresholding True"),
    "a random solver": ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, "algorithm_type 'sde-dpmsolver\\+\\+'"),
    "a predictor of its own": ({"_class_name": "UniPCMultistepScheduler", "solver_p": {}}, "solver_p"),
    "EDM's v": ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, "prediction_type 'v_prediction'"),
    "an unknown prediction": ({"_class_name": "DDIMScheduler", "prediction_type": "x"}, "prediction_type 'x'"),
    "flow without its sigmas": ({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"}, "use_flow_sigmas None"),
    "continuous noise": ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "continuous timesteps"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_name(case: str) -> None:
    config, said = REFUSED[case]
    with pytest.raises(V2WError, match=said):
        noise_spec_from_scheduler(config)


@pytest.mark.parametrize("plan", ["wan", "mochi", "cosmos", "unet-3d"])
def test_a_scheduler_does_not_change_the_kind(plan: str) -> None:
    spec = tiny_plan(plan).noise
    for release in RELEASED.values():
        kind = tiny_plan(release.plan).noise.kind
        if kind == spec.kind:
            assert noise_spec_from_scheduler(release.config, spec).kind == kind
        else:
            with pytest.raises(V2WError, match=f"noise of kind {kind}, the plan's is {spec.kind}"):
                noise_spec_from_scheduler(release.config, spec)


def test_a_plan_may_say_that_its_class_is_trained_with_another_kind() -> None:
    spec = tiny_plan("stable-video-diffusion").noise
    found = noise_spec_from_scheduler(RELEASED["modelscope"].config, spec)
    assert (found.kind, found.prediction) == ("ddpm", "epsilon")


def test_what_the_plan_says_beside_the_scheduler_is_kept() -> None:
    plan = tiny_plan("cosmos").noise
    found = noise_spec_from_scheduler(RELEASED["cosmos 1.0"].config, plan)
    assert found.log_sigma == plan.log_sigma == (0, 1)


UNSAMPLED = {
    "more betas than timesteps": {"_class_name": "DDIMScheduler", "trained_betas": [0.1, 0.2]},
    "nothing is left of alpha": {"_class_name": "DDIMScheduler", "beta_start": 2.0, "beta_end": 3.0},
    "levels that do not fall": {"_class_name": "EDMEulerScheduler", "sigma_min": 5.0, "sigma_max": 1.0},
    "an order of a billion": {"_class_name": "UniPCMultistepScheduler", "solver_order": 10**9},
    "not a number": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": float("nan")},
}


@pytest.mark.parametrize("case", UNSAMPLED)
def test_a_scheduler_that_cannot_be_sampled_is_found(case: str) -> None:
    with pytest.raises(Exception):  # noqa: B017 (whatever diffusers raises; `resolve` makes it one line)
        check_sampling(noise_spec_from_scheduler(UNSAMPLED[case]).build())


def test_settings_of_other_classes_are_left_out() -> None:
    config = {"_class_name": "DDIMScheduler", "clip_sample": False, "skip_prk_steps": True}
    assert "skip_prk_steps" not in build_scheduler(config, {}).config


def test_steps_that_a_schedule_does_not_have_are_refused() -> None:
    """LTX-Video 0.9.1 ends above zero, where one step has no way to go."""
    noise = tiny_plan("ltx-video").noise.build()
    refusal = "denoise in 1 step: its FlowMatchEuler.* has no such levels .try: 2 steps at least"
    for sampled in (
        noise.check_sampling,
        lambda n: noise.sampler(n, 64),
        lambda n: noise.inference_levels(n, 64),
    ):
        sampled(2)
        with pytest.raises(V2WError, match=refusal):
            sampled(1)

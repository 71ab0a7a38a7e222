"""Scheduler configs of released checkpoints, as diffusers' conversion scripts and the model cards have them."""

from dataclasses import dataclass, field
from typing import Any

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
COGVIDEOX = {
    **SD,
    "_class_name": "CogVideoXDDIMScheduler",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
UNIPC = {
    "_class_name": "UniPCMultistepScheduler",
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
}
EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


@dataclass(frozen=True)
class Release:
    """A checkpoint's scheduler, and what its family's pipeline gives it.

    Attributes:
        plan: The plan of the family.
        config: Of the scheduler.
        given: Arguments of `set_timesteps`, as the pipeline gives them for `STEPS` steps; by default their number.
        first: How large the pipeline makes the first frames; None: the scheduler's `init_noise_sigma`.
    """

    plan: str
    config: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    first: float | None = None


STEPS, TOKENS = 10, 2560
EVEN = [1 - i / STEPS for i in range(STEPS)]
# Mochi's linear_quadratic_schedule(10, 0.025) of diffusers 0.42
MOCHI = [1.0, 0.995, 0.99, 0.985, 0.98, 0.975, 0.932, 0.813, 0.618, 0.347]

RELEASED = {
    "svd": Release(
        "stable-video-diffusion",
        {
            **SD,
            "_class_name": "EulerDiscreteScheduler",
            "interpolation_type": "linear",
            "prediction_type": "v_prediction",
            "sigma_max": 700.0,
            "sigma_min": 0.002,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "timestep_type": "continuous",
            "use_karras_sigmas": True,
        },
    ),
    "cosmos 1.0": Release(
        "cosmos",
        {
            "_class_name": "EDMEulerScheduler",
            "sigma_min": 0.002,
            "sigma_max": 80,
            "sigma_data": 0.5,
            "sigma_schedule": "karras",
            "prediction_type": "epsilon",
            "rho": 7.0,
            "final_sigmas_type": "sigma_min",
        },
        first=80.0,
    ),
    "modelscope": Release(
        "unet-3d",
        {
            **SD,
            "_class_name": "DDIMScheduler",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,  # of another class; diffusers ignores it, too
            "steps_offset": 1,
        },
    ),
    "i2vgen-xl": Release(
        "i2vgen-xl",
        {
            "_class_name": "DDIMScheduler",
            "beta_schedule": "squaredcos_cap_v2",
            "rescale_betas_zero_snr": True,
            "set_alpha_to_one": True,
            "clip_sample": False,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "prediction_type": "v_prediction",
        },
    ),
    "animatediff": Release(
        "animatediff",
        {
            "_class_name": "DDIMScheduler",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "linear",
            "clip_sample": False,
            "timestep_spacing": "linspace",
            "steps_offset": 1,
        },
    ),
    "latte": Release(
        "latte",
        {
            "_class_name": "DDIMScheduler",
            "beta_start": 0.0001,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "clip_sample": False,
        },
    ),
    "cogvideox-2b": Release("cogvideox-2b", {**COGVIDEOX, "snr_shift_scale": 3.0}),
    "cogvideox-5b": Release("cogvideox", {**COGVIDEOX, "snr_shift_scale": 1.0}),
    "hunyuan-video": Release("hunyuan-video", {**EULER, "shift": 7.0}, {"sigmas": EVEN}),
    "hunyuan-video 1.5": Release("hunyuan-video-15", {**EULER, "shift": 5.0}, {"sigmas": EVEN}),
    "kandinsky 5": Release("kandinsky-5", {**EULER, "shift": 5.0}),
    "mochi": Release("mochi", {**EULER, "invert_sigmas": True}, {"sigmas": MOCHI}),
    "ltx-video 0.9.0": Release(
        "ltx-video",
        {
            **EULER,
            "use_dynamic_shifting": True,
            "base_shift": 0.95,
            "max_shift": 2.05,
            "base_image_seq_len": 1024,
            "max_image_seq_len": 4096,
            "shift_terminal": 0.1,
        },
        {"sigmas": EVEN, "mu": 1.5},  # 2560 tokens: half way
    ),
    "easyanimate 5.1": Release("easyanimate", {**EULER, "use_dynamic_shifting": True}, {"mu": 1}),
    "wan 2.1": Release("wan", {**UNIPC, "flow_shift": 3.0}),
    "wan 2.2": Release("wan", {**UNIPC, "flow_shift": 5.0}),
    "skyreels v2": Release("skyreels-v2", {**UNIPC, "flow_shift": 8.0}),
    "sana-video": Release(
        "sana-video",
        {
            "_class_name": "DPMSolverMultistepScheduler",
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "flow_shift": 8.0,
        },
    ),
}
# Sampled without the noise that it adds.
ALLEGRO = {
    **SD,
    "_class_name": "EulerAncestralDiscreteScheduler",
    "prediction_type": "v_prediction",
    "timestep_spacing": "linspace",
}

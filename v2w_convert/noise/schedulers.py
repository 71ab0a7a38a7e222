"""The schedulers of diffusers that are served: what each says about the noise, and which of its settings count.

The noise is made by the class itself, from its own config, so that its settings are honoured. `SERVED` says of every
setting whether that is so; a test walks the classes' signatures, so that a new one is not ignored in silence.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers

from v2w_convert.errors import V2WError

ASKED = "read the checkpoint's scheduler"

TABLE = {
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
}
CLIPPING = {"clip_sample", "clip_sample_range"}
THRESHOLDS = {"dynamic_thresholding_ratio", "sample_max_value"}
SPACED_SIGMAS = {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"}
OFF = (False, None)


@dataclass(frozen=True)
class Served:
    """What is made of one class of schedulers.

    Attributes:
        honoured: Settings that count, because the class, or the one it is sampled as, is built with them.
        harmless: Settings that change nothing here, because what they belong to is refused or not random.
        only: Settings that are served at these values, and refused by name at others.
        sampled_as: The class whose levels and steps are used instead: the deterministic one of the same noise.
        given: Its settings that this class does not have.
    """

    honoured: set[str]
    harmless: set[str] = field(default_factory=set)
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    sampled_as: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


NO_THRESHOLD = {"thresholding": OFF}

SERVED: dict[str, Served] = {
    "DDIMScheduler": Served(
        TABLE | CLIPPING | {"set_alpha_to_one", "rescale_betas_zero_snr"}, THRESHOLDS, NO_THRESHOLD
    ),
    # Random ones are sampled without their noise.
    "DDPMScheduler": Served(
        TABLE | CLIPPING | {"rescale_betas_zero_snr"},
        THRESHOLDS | {"variance_type"},
        NO_THRESHOLD,
        sampled_as="DDIMScheduler",
    ),
    "PNDMScheduler": Served(
        TABLE | {"set_alpha_to_one"},
        {"skip_prk_steps"},
        sampled_as="DDIMScheduler",
        given={"clip_sample": False},
    ),
    "CogVideoXDDIMScheduler": Served(
        TABLE | {"set_alpha_to_one", "rescale_betas_zero_snr", "snr_shift_scale"},
        CLIPPING | {"sample_max_value"},  # its steps do not clip
    ),
    "CogVideoXDPMScheduler": Served(
        TABLE | {"set_alpha_to_one", "rescale_betas_zero_snr", "snr_shift_scale"},
        CLIPPING | {"sample_max_value"},
        sampled_as="CogVideoXDDIMScheduler",
    ),
    "EulerDiscreteScheduler": Served(
        TABLE
        | SPACED_SIGMAS
        | {
            "interpolation_type",
            "sigma_min",
            "sigma_max",
            "timestep_type",
            "rescale_betas_zero_snr",
            "final_sigmas_type",
        }
    ),
    "EulerAncestralDiscreteScheduler": Served(
        TABLE | {"rescale_betas_zero_snr"}, sampled_as="EulerDiscreteScheduler"
    ),
    "DPMSolverMultistepScheduler": Served(
        TABLE
        | SPACED_SIGMAS
        | {
            "solver_order",
            "algorithm_type",
            "solver_type",
            "lower_order_final",
            "euler_at_final",
            "use_lu_lambdas",
            "use_flow_sigmas",
            "flow_shift",
            "final_sigmas_type",
            "lambda_min_clipped",
            "rescale_betas_zero_snr",
        },
        THRESHOLDS | {"time_shift_type"},
        # sde-…: random. Learned variances: twice the channels. Dynamic shifting: no pipeline of these families sets it.
        {
            **NO_THRESHOLD,
            "algorithm_type": ("dpmsolver++", "dpmsolver", "deis"),
            "variance_type": (None,),
            "use_dynamic_shifting": OFF,
        },
    ),
    "UniPCMultistepScheduler": Served(
        TABLE
        | SPACED_SIGMAS
        | {
            "solver_order",
            "predict_x0",
            "solver_type",
            "lower_order_final",
            "disable_corrector",
            "use_flow_sigmas",
            "flow_shift",
            "final_sigmas_type",
            "rescale_betas_zero_snr",
            "use_dynamic_shifting",
            "time_shift_type",
            "sigma_min",
            "sigma_max",
            "shift_terminal",
        },
        THRESHOLDS,
        {**NO_THRESHOLD, "solver_p": (None,)},
    ),
    "EDMEulerScheduler": Served(
        {
            "sigma_min",
            "sigma_max",
            "sigma_data",
            "sigma_schedule",
            "prediction_type",
            "rho",
            "final_sigmas_type",
        },
        {"num_train_timesteps"},  # the level is sigma
        {"prediction_type": ("epsilon",)},
    ),
    "FlowMatchEulerDiscreteScheduler": Served(
        {
            "num_train_timesteps",
            "shift",
            "use_dynamic_shifting",
            "base_shift",
            "max_shift",
            "base_image_seq_len",
            "max_image_seq_len",
            "invert_sigmas",
            "shift_terminal",
            "time_shift_type",
        }
        | SPACED_SIGMAS,
        {"stochastic_sampling"},
    ),
}


def served(config: Mapping[str, Any]) -> Served:
    """What is made of the scheduler's class.

    Raises:
        V2WError: The class, or one of its settings, is not served; with its name.
    """
    name = config.get("_class_name")
    found = SERVED.get(name) if isinstance(name, str) else None
    if found is None:
        raise V2WError(
            ASKED,
            "it has no _class_name"
            if name is None
            else f"it is a {name!r:.80}, whose noise is not known here",
            f"one of {', '.join(SERVED)}",
        )
    faults = [
        f"{name} with {key} {config[key]!r:.80} is not served: {' or '.join(map(repr, values))} is"
        for key, values in found.only.items()
        if key in config and not any(config[key] is value or config[key] == value for value in values)
    ]
    if faults:
        raise V2WError(ASKED, faults)
    return found


def build_scheduler(config: Mapping[str, Any], unknown: Mapping[str, Any]) -> Any:
    """The scheduler of diffusers that samples what `config` describes.

    Settings that the class does not have are left out, as diffusers does.

    Args:
        config: Of the scheduler.
        unknown: What a config without a class is taken to add to.

    Raises:
        V2WError: As `served` does.
    """
    config = config if "_class_name" in config else {**unknown, **config}
    entry = served(config)
    name = entry.sampled_as or config["_class_name"]
    kind = getattr(diffusers, name)
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in {**config, **entry.given}.items() if key in known})


def with_timesteps(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
    """A scheduler of the same settings with its timesteps set, for one block's denoising."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(*args, **kwargs)
    return fresh

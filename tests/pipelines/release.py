"""What one release of a family is made of, as far as a conversion must know it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Release:
    """A released checkpoint: facts, never weights.

    Attributes:
        name: As its makers call it.
        plan: The plan that converts it.
        source: Where the facts are from.
        scheduler: Its scheduler_config.json, `_class_name` included.
        index: Entries of its model_index.json: the pipeline's class and what changes how the pipeline calls its denoiser.
        config: What differs from the class's defaults in its denoiser's config.json.
        sites: How many sites of each operation its plan finds in that config.
        tiny: The same keys where they change the structure, for the plan's tiny configuration.
        vae: Facts of its autoencoder.
        stage: Which function of `tests.pipelines.stages` sets the pipeline up.
        not_compared: Why it cannot be set beside a pipeline; None: it is.
        next_not_compared: Why the next latents cannot be compared; None: they are.
        rounds: What its denoiser rounds within its forward, so that outputs are compared in float64, without that; None:
            they are compared as they are.
    """

    name: str
    plan: str
    source: str
    scheduler: dict[str, Any]
    index: dict[str, Any]
    sites: dict[str, int] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    tiny: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    not_compared: str | None = None
    next_not_compared: str | None = None
    rounds: str | None = None


SCRIPTS = "github.com/huggingface/diffusers, scripts/"
"""Where diffusers' conversion scripts lie, which wrote most released folders."""


def flow_euler(**changed: Any) -> dict[str, Any]:
    """The config of diffusers' Euler steps for flow matching."""
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": 1.0,
        **changed,
    }


def flow_unipc(shift: float, **changed: Any) -> dict[str, Any]:
    """The config of diffusers' UniPC for flow matching."""
    return {
        "_class_name": "UniPCMultistepScheduler",
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "num_train_timesteps": 1000,
        "flow_shift": shift,
        "solver_order": 2,
        "solver_type": "bh2",
        "predict_x0": True,
        "lower_order_final": True,
        "final_sigmas_type": "zero",
        **changed,
    }

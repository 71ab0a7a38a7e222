"""A checkpoint's own scheduler config -> its noise."""

from collections.abc import Mapping
from typing import Any

import torch

from v2w_convert.errors import V2WError
from v2w_convert.noise.base import SOME_TOKENS, Noise
from v2w_convert.noise.predictions import Prediction
from v2w_convert.noise.schedulers import ASKED, served
from v2w_convert.noise.spec import NoiseSpec

PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "sample",
    "flow_prediction": "flow",
}
PROBE_STEPS = 3
ROUNDING = 1e-6


def noise_spec_from_scheduler(config: Mapping[str, Any], spec: NoiseSpec | None = None) -> NoiseSpec:
    """A plan's noise, as the checkpoint's own scheduler config has it.

    Args:
        config: Of the scheduler. `base_scale` in it is ours, not diffusers'.
        spec: The plan's noise; None: nothing is known but the scheduler.

    Raises:
        V2WError: The scheduler, or one of its settings, is not served, or it is of another kind than the plan's.
    """
    config = dict(config)
    base_scale = config.pop("base_scale", 1.0)
    kind, prediction = _kind(config)
    if spec is None:
        return NoiseSpec(kind=kind, prediction=prediction, scheduler=config, base_scale=base_scale)
    if kind not in (spec.kind, *spec.other_kinds):
        raise V2WError(
            ASKED,
            f"{config['_class_name']} is noise of kind {kind}, the plan's is {spec.kind}",
            "the scheduler that the checkpoint was trained with, or a plan of that kind",
        )
    own: dict[str, Any] = {"scheduler": config, "prediction": prediction, "base_scale": base_scale}
    if kind != spec.kind:
        return NoiseSpec(kind=kind, **own)
    return NoiseSpec.model_validate({**spec.model_dump(), **own})


def _kind(config: Mapping[str, Any]) -> tuple[str, Prediction]:
    """The kind of noise that a scheduler samples, and what it takes the base to predict."""
    served(config)
    name = config["_class_name"]
    if name == "FlowMatchEulerDiscreteScheduler":
        return "flow", "flow"
    if name == "EDMEulerScheduler":
        return "edm", "edm"
    said = config.get("prediction_type", "epsilon")
    if not isinstance(said, str) or said not in PREDICTIONS:
        raise V2WError(ASKED, f"prediction_type {said!r:.80}", f"one of {', '.join(PREDICTIONS)}")
    prediction = PREDICTIONS[said]
    if bool(config.get("use_flow_sigmas")) != (prediction == "flow"):
        raise V2WError(
            ASKED,
            f"{name} with prediction_type {said} and use_flow_sigmas {config.get('use_flow_sigmas')!r:.80}",
            "flow_prediction with use_flow_sigmas true, any other with false",
        )
    if prediction == "flow":
        return "flow", "flow"
    if config.get("timestep_type") == "continuous":
        if prediction != "v":
            raise V2WError(ASKED, f"continuous timesteps of prediction_type {said}", "v_prediction")
        return "edm", prediction
    return "ddpm", prediction


def check_sampling(noise: Noise) -> None:
    """Sample a few steps of one number, so that a scheduler which cannot do so is found before anything is written.

    Raises:
        V2WError: A step's result is not finite, or the levels do not fall.
        Exception: Whatever the scheduler raises.
    """
    sampler = noise.sampler(PROBE_STEPS, SOME_TOKENS)
    levels = sampler.levels
    rises = levels.diff() > ROUNDING * levels[0]
    if rises.any() or not levels.isfinite().all() or not levels[-1] < levels[0]:
        raise V2WError(ASKED, f"its noise levels do not fall: {[round(x, 4) for x in levels.tolist()]}")
    frame = sampler.start(torch.ones(1, 1, 1, 1, 1))
    for i in range(len(levels) - 1):
        frame = sampler.step(torch.full_like(frame, 0.5), frame, i)
    if not frame.isfinite().all():
        raise V2WError(ASKED, "a sampled frame is not finite")

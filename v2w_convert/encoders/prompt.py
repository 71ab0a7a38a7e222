"""A prompt -> the conditions of a plan, by the folder's own text encoders."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from v2w_convert.encoders.components import (
    INDEX,
    INSTALL,
    encoder_pipeline,
    encoders_named,
    one_line_of,
    pipeline_name,
    transformers_installed,
    weights_obstacle,
)
from v2w_convert.encoders.families import PROMPTS, REASONS
from v2w_convert.errors import V2WError
from v2w_convert.plan.call import Conditions
from v2w_convert.plan.condition import DTYPES
from v2w_convert.plan.resolve import ResolvedPlan

OWN = "--conditions with embeddings of your own"
ONE = ("num_videos_per_prompt", "num_images_per_prompt", "batch_size")


def prompt_obstacle(folder: Path, resolved: ResolvedPlan) -> str | None:
    """Why no prompt can be encoded with what is in `folder`; None: it can."""
    name = pipeline_name(folder)
    if not name:
        return f"there is no pipeline's {INDEX}"
    if name not in PROMPTS:
        return REASONS.get(name, f"the prompts of a {name:.80} are not served")
    if not any(condition in resolved.call.conditions for condition in PROMPTS[name]):
        return "its plan has no prompt"
    if not any(part.startswith("text_encoder") for part in _encoders(folder)):
        return "there is no text encoder in the folder"
    if not transformers_installed():
        return f"transformers is not installed: {INSTALL}"
    return weights_obstacle(folder, _encoders(folder))


def encode_prompts(
    folder: Path, resolved: ResolvedPlan, prompts: Sequence[str], device: torch.device
) -> list[Conditions]:
    """What the base receives for each prompt, as its own pipeline encodes it: lengths, template, cleaning and mask.

    Args:
        folder: A pipeline folder with its encoders.
        resolved: The plan for its denoiser.
        prompts: Encoded one by one.
        device: Where to encode.

    Returns:
        For each prompt its conditions by name, unbatched, on the CPU, in the plan's dtypes.

    Raises:
        V2WError: The folder has no encoders that are served, or they cannot be read or do not fit the denoiser.
    """
    asked = f"encode a prompt with the encoders of {folder}"
    if (obstacle := prompt_obstacle(folder, resolved)) is not None:
        raise V2WError(asked, obstacle, OWN)
    names = PROMPTS[pipeline_name(folder)]
    with encoder_pipeline(folder, resolved, _encoders(folder), device) as pipeline:
        options = prompt_options(pipeline, resolved)
        encoder = pipeline.text_encoder
        if not hasattr(
            encoder, "text_model"
        ):  # as diffusers' I2VGen-XL knows CLIP, which transformers 5 has changed
            encoder.__dict__["text_model"] = encoder
        found = []
        for prompt in prompts:
            with one_line_of("encode_prompt", asked, f"another --device, or {OWN}"):
                results = pipeline.encode_prompt(prompt=prompt, device=device, **options)
            found.append(as_conditions(resolved, dict(zip(names, results, strict=False)), asked))
    return found


def prompt_options(pipeline: Any, resolved: ResolvedPlan) -> dict[str, Any]:
    """What the pipeline's `__call__` passes to its `encode_prompt` where its user says nothing, without guidance.

    Where the plan has a fixed number of tokens, that many: some releases were trained on fewer than the pipeline's
    default.
    """
    takes = inspect.signature(pipeline.encode_prompt).parameters
    defaults = inspect.signature(type(pipeline).__call__).parameters
    options = {
        name: defaults[name].default
        for name in takes
        if name in defaults and defaults[name].default not in (None, inspect.Parameter.empty)
    }
    options |= dict.fromkeys(ONE, 1) | {"do_classifier_free_guidance": False}
    pipeline._guidance_scale = 1.0  # where it is asked instead
    text = resolved.call.conditions.get("text")
    if text is not None and not text.has_tokens:
        options["max_sequence_length"] = text.shape()[0]
    return {name: value for name, value in options.items() if name in takes and name != "negative_prompt"}


def as_conditions(resolved: ResolvedPlan, results: dict[str, Tensor], asked: str) -> Conditions:
    """An encoder's results (1 …) as conditions of the plan: those that it has, unbatched, in its dtypes, on the CPU.

    Raises:
        V2WError: A shape is not the plan's, or a value is not finite.
    """
    found, faults = {}, []
    for name, result in results.items():
        if (condition := resolved.call.conditions.get(name)) is None or result is None:
            continue
        value = result[0].to("cpu", DTYPES.get(condition.dtype, torch.float32))
        if value.ndim == len(condition.sizes) + 1 and value.shape[0] == 1:
            value = value[0]  # one token, where the base takes a vector
        if not condition.accepts(tuple(value.shape)):
            faults.append(f"{name} is {tuple(value.shape)}, the denoiser takes {condition.shape()}")
        elif not bool(torch.isfinite(value).all()):
            faults.append(f"{name} has values that are not finite")
        found[name] = value.clone()
    if faults:
        raise V2WError(asked, faults, "the encoders that belong to this denoiser")
    return found


def _encoders(folder: Path) -> dict[str, str]:
    return encoders_named(folder, lambda name: name.startswith(("text_encoder", "tokenizer")))

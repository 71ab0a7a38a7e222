"""How a base's forward is called: found by calling it.

The names of its arguments suggest candidates; what it raises says which widths were wrong.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.call_adjustments import (
    PLACEHOLDERS,
    Candidate,
    adjust,
    copy_candidate,
    placeholders,
    with_image_latents,
    with_text_length,
    with_width,
)
from v2w_convert.draft.candidate_calls import (
    Arguments,
    arguments_of,
    candidate_calls,
    condition_name,
    condition_of,
    forms_of,
)
from v2w_convert.draft.config_keys import text_lengths
from v2w_convert.draft.symbolic_shapes import with_config_keys
from v2w_convert.errors import V2WError
from v2w_convert.expression import evaluate_int
from v2w_convert.families import COMPUTED_ARGUMENTS
from v2w_convert.plan.call import call_base, resolve_call
from v2w_convert.plan.grammar import Call

BATCH, FRAMES, HEIGHT, WIDTH, TOKENS = 2, 5, 8, 16, 3
MAX_ADJUSTMENTS = 24  # of one candidate
MAX_CANDIDATES = 400


@dataclass
class FoundCall:
    """How a base is called.

    Attributes:
        call: In keys of the base's config.
        open: What was not settled: key of the plan -> sentence.
    """

    call: Call
    open: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Attempt:
    """A candidate that was adjusted as often as its errors said how.

    Attributes:
        call: Under which the forward returns a clip's frames; None if there is none.
        fault: Why there is none.
        adjustments: How many were made.
    """

    call: Call | None
    fault: str
    adjustments: int


@torch.no_grad()
def find_call(model: nn.Module, config: dict[str, Any]) -> FoundCall:
    """A call under which a model returns a clip's frames.

    Args:
        model: With no layer that is zero.
        config: Its own.

    Raises:
        V2WError: None was found. It says the fault of the candidate that came furthest.
    """
    asked = f"call a {type(model).__name__} with a clip"
    arguments = arguments_of(model)
    if arguments.noise_level is None:
        raise V2WError(asked, "its forward takes no timestep", "a model that denoises video")
    furthest = _Attempt(None, "no candidate was found", -1)
    for candidate in itertools.islice(candidate_calls(arguments, config), MAX_CANDIDATES):
        attempt = _attempt(model, config, candidate)
        if attempt.call is not None:
            call = _with_optional(model, config, attempt.call, arguments)
            return FoundCall(*with_config_keys(call, config, arguments.names))
        if attempt.adjustments > furthest.adjustments:
            furthest = attempt
    not_tried = ", ".join(arguments.not_tried)
    untried = f" (no value is known for {not_tried})" if not_tried else ""
    raise V2WError(asked, f"{furthest.fault}{untried}", "a model that denoises video")


def random_inputs(
    call: Call, config: dict[str, Any], t: int, seed: int, b: int = BATCH, tokens: int = TOKENS
) -> dict[str, Tensor]:
    """Random latents and conditions; masks are all ones.

    Args:
        call: How the base is called.
        config: The base's.
        t: Frames.
        seed: Of the random numbers.
        b: Clips.
        tokens: Of each text.

    Returns:
        By name: the conditions, `latents` (b t c h w) and `noise_level` (b,).
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    resolved = resolve_call(call, config)
    inputs = {"latents": normal(b, t, resolved.channels, HEIGHT, WIDTH)}
    for name, condition in resolved.conditions.items():
        shape = condition.shape(HEIGHT, WIDTH, tokens)
        null = condition.null(HEIGHT, WIDTH, tokens)
        inputs[name] = normal(b, *shape) if condition.dtype == "float" else null.expand(b, *shape)
    return inputs | {"noise_level": 1 + 5 * torch.rand(b, generator=generator)}


def run_call(model: nn.Module, config: dict[str, Any], call: Call, inputs: dict[str, Tensor]) -> Tensor:
    """The model's output (b t c h w) for inputs as `random_inputs` returns them."""
    conditions = {name: x for name, x in inputs.items() if name not in ("latents", "noise_level")}
    return call_base(model, resolve_call(call, config), inputs["latents"], inputs["noise_level"], conditions)


def frames_of(call: Call, config: dict[str, Any]) -> int:
    """Frames of the clips to try."""
    return FRAMES if call.latents.clip_length is None else evaluate_int(call.latents.clip_length, config)


def _attempt(model: nn.Module, config: dict[str, Any], candidate: Candidate) -> _Attempt:
    """Call the model, adjusting the candidate by the errors."""
    lengths = list(text_lengths(config))
    for adjustments in range(MAX_ADJUSTMENTS):
        call = Call.model_validate(candidate)
        t = frames_of(call, config)
        try:
            inputs = random_inputs(call, config, t, seed=0)
            output = run_call(model, config, call, inputs)
            if not placeholders(candidate):  # another number of tokens must do as well
                run_call(model, config, call, random_inputs(call, config, t, seed=0, tokens=TOKENS + 1))
        except Exception as error:  # anything: a forward receives arguments that it was not written for
            fault = _sentence(error)
            adjusted = adjust(candidate, fault, config, t)
            if adjusted is None and lengths:
                adjusted = with_text_length(candidate, lengths.pop())
            if adjusted is None:
                return _Attempt(None, fault, adjustments)
            candidate = adjusted
            continue
        extra = inputs["latents"].shape[2] - output.shape[2]
        if extra > 0:  # it takes more channels than it returns: something is concatenated to the noisy frames
            candidate = with_image_latents(candidate, extra)
        elif unused := placeholders(candidate):  # no width was wrong, so none matters
            candidate = with_width(candidate, unused[0], 1)
        else:
            reason = _why_not(model, config, call, inputs, output)
            return _Attempt(call if reason is None else None, reason or "", adjustments)
    return _Attempt(None, "no widths were found that it takes", MAX_ADJUSTMENTS)


def _why_not(
    model: nn.Module, config: dict[str, Any], call: Call, inputs: dict[str, Tensor], output: Tensor
) -> str | None:
    """Why the output of a call is not a clip's frames; None if it is."""
    if not bool(torch.isfinite(output).all()):
        return "its output is not finite"
    other = random_inputs(call, config, inputs["latents"].shape[1], seed=1)
    latents = torch.cat([inputs["latents"][:1], other["latents"][1:]])
    after = run_call(model, config, call, inputs | {"latents": latents})
    if not torch.allclose(after[0], output[0], rtol=1e-3, atol=1e-4):
        return "one clip of a batch sees another"
    if torch.equal(after[1], output[1]):
        return "its output does not depend on the clip"
    try:
        run_call(model, config, call, random_inputs(call, config, 1, seed=0, b=3))
    except Exception as error:  # as in _attempt
        return f"it cannot be called on clips of one frame ({_sentence(error)[:200]})"
    return None


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# -------------------------------------------------------------------------------------------- optional conditions


def _with_optional(model: nn.Module, config: dict[str, Any], call: Call, arguments: Arguments) -> Call:
    """The call with every other condition that changes the output, and without those that do not."""
    for name, condition in list(call.conditions.items()):
        if condition.argument in arguments.optional and not _matters(model, config, call, name):
            candidate = copy_candidate(call.model_dump(mode="json"))
            del candidate["conditions"][name]
            call = _attempt(model, config, candidate).call or call
    for argument in arguments.optional:
        if all(condition.argument != argument for condition in call.conditions.values()):
            call = _with_argument(model, config, call, argument)
    return _with_computed_arguments(model, config, call, arguments)


def _with_argument(model: nn.Module, config: dict[str, Any], call: Call, argument: str) -> Call:
    """The call with an optional argument as a condition, if that changes the output."""
    for form in filter(None, forms_of(argument)):
        candidate = copy_candidate(call.model_dump(mode="json"))
        name, channels = condition_name(argument, call.conditions), int(call.latents.channels)
        candidate["conditions"][name] = condition_of(
            argument, form, PLACEHOLDERS[-1], channels, call.latents.layout
        )
        found = _attempt(model, config, candidate).call
        if found is not None and _matters(model, config, found, name):
            return found
    return call


def _with_computed_arguments(
    model: nn.Module, config: dict[str, Any], call: Call, arguments: Arguments
) -> Call:
    """The call with the tables of positions that a family's function computes, if one fits.

    Not if the config says that there are none.
    """
    if call.computed_arguments is not None or "text" not in call.conditions:
        return call
    if any("rotary" in key and value is False for key, value in config.items()):
        return call
    t = frames_of(call, config)
    inputs = random_inputs(call, config, t, seed=0)
    for name, compute in COMPUTED_ARGUMENTS.items():
        try:
            computed = compute(config, t, HEIGHT, WIDTH, inputs["text"], inputs["latents"])
        except Exception:  # another family's keys
            continue
        if computed.keys() <= set(arguments.names):
            candidate = {**call.model_dump(mode="json"), "computed_arguments": name}
            found = _attempt(model, config, candidate).call
            if found is not None:
                return found
    return call


def _matters(model: nn.Module, config: dict[str, Any], call: Call, name: str) -> bool:
    """Whether another value of a condition changes the output."""
    t = frames_of(call, config)
    inputs = random_inputs(call, config, t, seed=0)
    other = random_inputs(call, config, t, seed=1)[name]
    if not other.is_floating_point():
        other = other.clone()
        other[..., -1] = 0
    try:
        return not torch.equal(
            run_call(model, config, call, inputs), run_call(model, config, call, inputs | {name: other})
        )
    except Exception:  # as in _attempt
        return False

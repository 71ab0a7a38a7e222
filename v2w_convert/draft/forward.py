"""How a base's forward is called: found by calling it.

The names of its arguments say what each of them may be; widths are numbers that occur nowhere else, so that a fault
about one of them tells whose it is, and what it should have been.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.entries import TEXT_LENGTHS
from v2w_convert.draft.mend import (
    UNKNOWN,
    Outline,
    copied,
    mend,
    replaced,
    unknowns,
    with_anchor,
    with_length,
)
from v2w_convert.draft.outlines import Arguments, arguments_of, condition_of, named, outlines, shapes_of
from v2w_convert.draft.said import said
from v2w_convert.errors import V2WError
from v2w_convert.expression import evaluate_int
from v2w_convert.families import COMPUTED_ARGUMENTS
from v2w_convert.plan.call import call_base, resolve_call
from v2w_convert.plan.grammar import Call

B, T, H, W, TOKENS = 2, 5, 8, 16, 3
MENDINGS = 24
TRIES = 400


@dataclass
class Found:
    """call   how a base of this class is called, in entries of its config
    open   what was not settled: place in the plan -> sentence
    """

    call: Call
    open: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def find_call(model: nn.Module, config: dict[str, Any]) -> Found:
    """A call under which `model` (woken) returns a clip's frames. Raises V2WError with the nearest fault."""
    asked = f"call a {type(model).__name__} with a clip"
    taken = arguments_of(model)
    if taken.level is None:
        raise V2WError(asked, "its forward takes no timestep", "a model that denoises video")
    fault, furthest = "no way was found", -1
    for outline in itertools.islice(outlines(taken, config), TRIES):
        call, found, mended = _settle(model, config, outline)
        if call is not None:
            return Found(*said(_grown(model, config, call, taken), config, taken.every))
        if mended > furthest:
            fault, furthest = found, mended
    untried = f" (no way was tried to give it {', '.join(taken.never)})" if taken.never else ""
    raise V2WError(asked, f"{fault}{untried}", "a model that denoises video")


def inputs_of(
    call: Call, config: dict[str, Any], t: int, seed: int, b: int = B, tokens: int = TOKENS
) -> dict[str, Tensor]:
    """Random latents and conditions, masks all given: arguments by name, `latents` and `level` among them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    resolved = resolve_call(call, config)
    inputs = {"latents": normal(b, t, resolved.channels, H, W)}
    for name, condition in resolved.conditions.items():
        shape = condition.shape(H, W, tokens)
        given = condition.null(H, W, tokens)
        inputs[name] = normal(b, *shape) if condition.dtype == "float" else given.expand(b, *shape)
    return inputs | {"level": 1 + 5 * torch.rand(b, generator=generator)}


def run(model: nn.Module, config: dict[str, Any], call: Call, inputs: dict[str, Tensor]) -> Tensor:
    conditions = {name: x for name, x in inputs.items() if name not in ("latents", "level")}
    return call_base(model, resolve_call(call, config), inputs["latents"], inputs["level"], conditions)


def frames_of(call: Call, config: dict[str, Any]) -> int:
    return T if call.latents.clip_length is None else evaluate_int(call.latents.clip_length, config)


def _settle(model: nn.Module, config: dict[str, Any], data: Outline) -> tuple[Call | None, str, int]:
    """The outline with its widths found; else None, the fault, and how many times it was mended before."""
    lengths = [key for key, v in config.items() if TEXT_LENGTHS.search(key) and isinstance(v, int)]
    for mended in range(MENDINGS):
        call = Call.model_validate(data)
        t = frames_of(call, config)
        try:
            inputs = inputs_of(call, config, t, seed=0)
            output = run(model, config, call, inputs)
            if not unknowns(data):  # any number of tokens will do
                run(model, config, call, inputs_of(call, config, t, seed=0, tokens=TOKENS + 1))
        except Exception as error:  # whatever a forward makes of arguments that it was not meant to get
            fault = " ".join(str(error).split()) or type(error).__name__
            better = mend(data, fault, config, t) or (with_length(data, lengths.pop()) if lengths else None)
            if better is None:
                return None, fault, mended
            data = better
            continue
        beyond = inputs["latents"].shape[2] - output.shape[2]
        if beyond > 0:  # it takes more than it gives back: something lies beside the noisy frames
            data = with_anchor(data, beyond)
        elif unheeded := unknowns(data):
            data = replaced(data, unheeded[0], 1)
        else:
            reason = _unfit(model, config, call, inputs, output)
            return (call if reason is None else None), reason or "", mended
    return None, "no widths were found that it takes", MENDINGS


def _unfit(
    model: nn.Module, config: dict[str, Any], call: Call, inputs: dict[str, Tensor], output: Tensor
) -> str | None:
    """Why what the call gave is not a clip's frames."""
    if not bool(torch.isfinite(output).all()):
        return "its output is not finite"
    other = inputs_of(call, config, inputs["latents"].shape[1], seed=1)
    latents = torch.cat([inputs["latents"][:1], other["latents"][1:]])
    after = run(model, config, call, inputs | {"latents": latents})
    if not torch.allclose(after[0], output[0], rtol=1e-3, atol=1e-4):
        return "one clip of a batch sees another"
    if torch.equal(after[1], output[1]):
        return "its output does not depend on the clip"
    try:
        run(model, config, call, inputs_of(call, config, 1, seed=0, b=3))
    except Exception as error:  # as in _settle
        return f"it cannot be called on clips of one frame ({' '.join(str(error).split())[:200]})"
    return None


# ------------------------------------------------------------------------------------------------- what it heeds


def _grown(model: nn.Module, config: dict[str, Any], call: Call, taken: Arguments) -> Call:
    """The call with every other condition that changes what the base gives, and without those that do not."""
    for name, condition in list(call.conditions.items()):
        if condition.argument in taken.known and not _heeded(model, config, call, name):
            data = copied(call.model_dump(mode="json"))
            del data["conditions"][name]
            call = _settle(model, config, data)[0] or call
    for argument in taken.known:
        if any(condition.argument == argument for condition in call.conditions.values()):
            continue
        for form in filter(None, shapes_of(argument)):
            data = copied(call.model_dump(mode="json"))
            name, c = named(argument, call.conditions), int(call.latents.channels)
            data["conditions"][name] = condition_of(argument, form, UNKNOWN[-1], c, call.latents.layout)
            grown, _, _ = _settle(model, config, data)
            if grown is not None and _heeded(model, config, grown, name):
                call = grown
                break
    return _with_tables(model, config, call, taken)


def _with_tables(model: nn.Module, config: dict[str, Any], call: Call, taken: Arguments) -> Call:
    """The call with tables of positions, if a family's fit, unless the config says that there are none."""
    if call.computed_arguments is not None or "text" not in call.conditions:
        return call
    if any("rotary" in key and value is False for key, value in config.items()):
        return call
    t = frames_of(call, config)
    inputs = inputs_of(call, config, t, seed=0)
    for name, compute in COMPUTED_ARGUMENTS.items():
        try:
            arguments = compute(config, t, H, W, inputs["text"], inputs["latents"])
        except Exception:  # another family's entries
            continue
        if arguments.keys() <= set(taken.every):
            grown, _, _ = _settle(model, config, {**call.model_dump(mode="json"), "computed_arguments": name})
            if grown is not None:
                return grown
    return call


def _heeded(model: nn.Module, config: dict[str, Any], call: Call, name: str) -> bool:
    """Whether another value of a condition gives another output."""
    t = frames_of(call, config)
    inputs = inputs_of(call, config, t, seed=0)
    other = inputs_of(call, config, t, seed=1)[name]
    if not other.is_floating_point():
        other = other.clone()
        other[..., -1] = 0
    try:
        return not torch.equal(
            run(model, config, call, inputs), run(model, config, call, inputs | {name: other})
        )
    except Exception:  # as in _settle
        return False

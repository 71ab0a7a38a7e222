"""How a base's forward is called: found by calling it.

The names of its arguments say what each of them may be; widths are numbers that occur nowhere else, so that a fault
about one of them tells whose it is, and what it should have been.
"""

import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.draft.entries import TEXT_LENGTHS
from v2w_convert.draft.mend import UNKNOWN, copied, mend, with_length
from v2w_convert.draft.said import said
from v2w_convert.errors import V2WError
from v2w_convert.expression import number
from v2w_convert.families import COMPUTED
from v2w_convert.plan.call import call_base, null, shape_of
from v2w_convert.plan.grammar import Call

B, T, H, W, TOKENS = 2, 5, 8, 16, 3
LAYOUTS = ("b c t h w", "b t c h w", "b t h w c", "b (t h w) c")
SIZES = {"num_frames": "t", "height": "h", "width": "w"}
MENDINGS = 24
TRIES = 400
PICTURED = re.compile(r"latents$|control_hidden_states$")
CONDITIONED = re.compile(
    r"latents$|control_hidden_states$|encoder_hidden_states|_embed|embeds|pooled|guidance|^ofs$|^fps$|timestep|attention_mask|_ids$"
)
NEVER = re.compile(r"kwargs|return_dict|residual|controlnet|^attention_mask$|scale$|_cond$|^id_")


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
    parameters = dict(inspect.signature(type(model).forward).parameters)
    parameters.pop("self")
    asked = f"call a {type(model).__name__} with a clip"
    level = next((name for name in parameters if re.fullmatch(r"timesteps?|t|sigma", name)), None)
    if level is None:
        raise V2WError(asked, "its forward takes no timestep", "a model that denoises video")
    latents = next(iter(parameters))
    conditions = {
        n: p for n, p in parameters.items() if n not in (latents, level, *SIZES) and not NEVER.search(n)
    }
    required = [n for n, p in conditions.items() if p.default is p.empty]
    known = [
        n
        for n, p in conditions.items()
        if n not in required and CONDITIONED.search(n) and re.search(r"Tensor", str(p.annotation))
    ]
    sizes = {name: letter for name, letter in SIZES.items() if name in parameters}

    fault, progress = "", -1
    outlines = _outlines(latents, level, required, known, sizes, config)
    for outline in itertools.islice(outlines, TRIES):
        call, found, mended = _settle(model, config, outline)
        if call is not None:
            call = _grow(model, config, call, known)
            return Found(*said(call, config, list(parameters)))
        if mended > progress:
            fault, progress = found, mended
    untried = [
        name for name in parameters if NEVER.search(name) and not re.search(r"kwargs|return_dict", name)
    ]
    note = f" (no way was tried to give it {', '.join(untried)})" if untried else ""
    raise V2WError(asked, f"{fault or 'no way was found'}{note}", "a model that denoises video")


def inputs_of(
    call: Call, config: dict[str, Any], t: int, seed: int, b: int = B, tokens: int = TOKENS
) -> dict[str, Tensor]:
    """Random latents and conditions, masks all given: arguments by name, `latents` and `level` among them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    channels = number(call.latents.channels, config)
    inputs = {"latents": normal(b, t, channels, H, W)}
    for name, condition in call.given(config).items():
        shape = shape_of(call, name, config, H, W, tokens)
        given = null(call, name, config, H, W, tokens)
        inputs[name] = normal(b, *shape) if condition.dtype == "float" else given.expand(b, *shape)
    return inputs | {"level": 1 + 5 * torch.rand(b, generator=generator)}


def run(model: nn.Module, config: dict[str, Any], call: Call, inputs: dict[str, Tensor]) -> Tensor:
    conditions = {name: x for name, x in inputs.items() if name not in ("latents", "level")}
    return call_base(model, call, config, inputs["latents"], inputs["level"], conditions)


def frames_of(call: Call, config: dict[str, Any]) -> int:
    return T if call.latents.frames is None else number(call.latents.frames, config)


# ------------------------------------------------------------------------------------------------------ trials


def _outlines(
    latents: str,
    level: str,
    required: list[str],
    known: list[str],
    sizes: dict[str, str],
    config: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Calls to try, the plainest first, with unknown widths."""
    sets = [list(few) for n in range(3) for few in itertools.combinations(known, n)]
    sets += [known, *([n for n in known if n != left] for left in known)]
    sets = [chosen for i, chosen in enumerate(sets) if chosen not in sets[:i]]
    tables = [None] if all(form is not None for n in required for form in _shapes(n)) else [*COMPUTED]
    channels: list[int] = [UNKNOWN[0]]
    if isinstance(config.get("out_channels"), int) and any(PICTURED.search(n) for n in known):
        channels.insert(0, config["out_channels"])  # what is put beside them has channels of its own
    for computed, c, repeat, chosen, layout in itertools.product(
        tables, channels, (False, True), sets, LAYOUTS
    ):
        arguments = (*required, *chosen)
        for forms in itertools.product(*(list(_shapes(name)) for name in arguments)):
            unknown = iter(UNKNOWN[1:])
            conditions = {}
            for argument, form in zip(arguments, forms, strict=True):
                if form is not None:  # else it is for `computed` to say
                    conditions[named(argument)] = _condition(argument, form, next(unknown), c, layout)
            texts = [name for name in conditions if name.startswith("text")]
            if (computed is not None or repeat) and not texts:
                continue
            if repeat:
                conditions[texts[0]]["repeat"] = True
            yield {
                "latents": {"argument": latents, "layout": layout, "channels": c},
                "noise_level": {"argument": level},
                "tokens": {"n": TOKENS},
                "conditions": conditions,
                "sizes": sizes,
                "computed": computed,
            }


def _condition(
    argument: str, form: dict[str, Any], unknown: int, channels: int, layout: str
) -> dict[str, Any]:
    shape = [{"?": unknown, "=": channels}.get(size, size) for size in form["shape"]]
    pictured = {"layout": layout} if shape[1:] == ["h", "w"] else {}
    return {**form, "argument": argument, "shape": shape, **pictured}


def _shapes(argument: str) -> Iterator[dict[str, Any] | None]:
    """What an argument of this name may be."""
    tokens, row = {"shape": ["n", "?"]}, {"shape": ["?"]}
    if "attention_mask" in argument:
        yield from ({"shape": ["n"], "fill": 1, "dtype": dtype} for dtype in ("int64", "bool"))
    elif PICTURED.search(argument):
        yield from (
            {"shape": [c, "h", "w"]} for c in ("=", "?")
        )  # as many channels as the latents, or others
    elif "encoder_hidden_states" in argument or argument.endswith("embeds"):
        yield tokens
    elif "embed" in argument:
        yield from (row, tokens)
    elif "pooled" in argument or argument.endswith("_ids"):
        yield row
    elif argument in ("guidance", "ofs", "fps") or "timestep" in argument:
        yield {"shape": []}
    elif "rope" in argument or "rotary" in argument:
        yield None
    else:
        yield from ({"shape": []}, row, tokens)


def named(argument: str) -> str:
    """A condition's name in the plan: what it is about."""
    numbered = re.search(r"(_2|_t5)$", argument)
    suffix = numbered.group() if numbered else ""
    if "attention_mask" in argument:
        return f"words{suffix}"
    if "image" in argument and PICTURED.search(argument) is None and "rotary" not in argument:
        return "image"
    if "pooled" in argument:
        return "pooled"
    if argument.startswith("encoder_hidden_states"):
        return f"text{suffix}"
    return argument


def _settle(model: nn.Module, config: dict[str, Any], data: dict[str, Any]) -> tuple[Call | None, str, int]:
    """The outline with its widths found; else None, the fault, and how far it came."""
    mended = 0
    lengths = [key for key, v in config.items() if TEXT_LENGTHS.search(key) and isinstance(v, int)]
    while mended < MENDINGS:
        call = Call.model_validate(data)
        t = frames_of(call, config)
        try:
            inputs = inputs_of(call, config, t, seed=0)
            output = run(model, config, call, inputs)
            if not any(size in UNKNOWN for c in call.conditions.values() for size in c.shape):
                run(model, config, call, inputs_of(call, config, t, seed=0, tokens=TOKENS + 1))
        except Exception as error:  # whatever a forward makes of arguments that it was not meant to get
            fault = " ".join(str(error).split()) or type(error).__name__
            changed = mend(data, fault, config, t)
            if changed is None and lengths:
                changed = with_length(data, lengths.pop())
            if changed is None:
                return None, fault, mended
            data, mended = changed, mended + 1
            continue
        c = inputs["latents"].shape[2]
        if output.shape[2] < c:  # it takes more than it gives back: something lies beside the noisy frames
            beyond = c - output.shape[2]
            data = copied(data)
            data["latents"]["channels"] = output.shape[2]
            data["conditions"]["anchor"] = {"shape": [beyond, "h", "w"]}
            mended += 1
            continue
        if reason := _unfit(model, config, call, inputs, output):
            return None, reason, mended
        unheeded = {
            name
            for name, condition in call.conditions.items()
            if any(size in UNKNOWN for size in condition.shape)
        }
        if unheeded:
            data = copied(data)
            for name in unheeded:
                shape = data["conditions"][name]["shape"]
                data["conditions"][name]["shape"] = [1 if size in UNKNOWN else size for size in shape]
            mended += 1
            continue
        return call, "", mended
    return None, "no widths were found that it takes", mended


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


def _grow(model: nn.Module, config: dict[str, Any], call: Call, known: list[str]) -> Call:
    """The call with every other condition that changes what the base gives, and without those that do not."""
    for name, condition in list(call.conditions.items()):
        if condition.argument in known and not _heeded(model, config, call, name):
            data = copied(call.model_dump(mode="json"))
            del data["conditions"][name]
            call = _settle(model, config, data)[0] or call
    for argument in known:
        if any(condition.argument == argument for condition in call.conditions.values()):
            continue
        for form in _shapes(argument):
            if form is None:
                continue
            data = copied(call.model_dump(mode="json"))
            data["conditions"][named(argument)] = _condition(
                argument, form, UNKNOWN[-1], int(call.latents.channels), call.latents.layout
            )
            grown, _, _ = _settle(model, config, data)
            if grown is not None and _heeded(model, config, grown, named(argument)):
                call = grown
                break
    without = any("rotary" in key and value is False for key, value in config.items())
    if call.computed is None and "text" in call.conditions and not without:
        parameters = set(inspect.signature(type(model).forward).parameters)
        t = frames_of(call, config)
        inputs = inputs_of(call, config, t, seed=0)
        for name, compute in COMPUTED.items():
            try:
                arguments = compute(config, t, H, W, inputs["text"], inputs["latents"])
            except Exception:  # another family's entries
                continue
            if arguments.keys() <= parameters:
                grown, _, _ = _settle(model, config, {**call.model_dump(mode="json"), "computed": name})
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

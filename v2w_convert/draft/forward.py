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

from v2w_convert.draft.entries import channels_of, difference_of, first_that_is, width_of
from v2w_convert.errors import V2WError
from v2w_convert.expression import number
from v2w_convert.families import COMPUTED
from v2w_convert.plan.call import call_base, null, shape_of
from v2w_convert.plan.grammar import Call

B, T, H, W, TOKENS = 2, 5, 8, 16, 3
LAYOUTS = ("b c t h w", "b t c h w", "b t h w c", "b (t h w) c")
SIZES = {"num_frames": "t", "height": "h", "width": "w"}
UNKNOWN = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157)  # prime: no width of a model is one of these
MENDINGS = 24
TRIES = 400
TEXT_LENGTHS = re.compile(r"^(?!.*(rope|motion|pos)).*max.*(text|seq|token).*len")
FRAMES = re.compile(r"frame|video|length|temporal")
USUAL_TOKENS = {"text": 512, "image": 257}
PICTURED = re.compile(r"latents$|control_hidden_states$")
CONDITIONED = re.compile(r"latents$|control_hidden_states$|encoder_hidden_states|_embed|embeds|pooled|guidance|^ofs$|^fps$|timestep|attention_mask|_ids$")
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
    conditions = {n: p for n, p in parameters.items() if n not in (latents, level, *SIZES) and not NEVER.search(n)}
    required = [n for n, p in conditions.items() if p.default is p.empty]
    known = [
        n
        for n, p in conditions.items()
        if n not in required and CONDITIONED.search(n) and re.search(r"Tensor", str(p.annotation))
    ]
    sizes = {name: letter for name, letter in SIZES.items() if name in parameters}

    fault, progress = "", -1
    outlines = _outlines(latents, level, required, known, sizes, set(parameters))
    for outline in itertools.islice(outlines, TRIES):
        call, found, mended = _settle(model, config, outline)
        if call is not None:
            call = _grow(model, config, call, known)
            return _said(model, config, call, set(parameters))
        if mended > progress:
            fault, progress = found, mended
    raise V2WError(asked, fault or "no way to call it was found", "a model that denoises video")


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
    latents: str, level: str, required: list[str], known: list[str], sizes: dict[str, str], names: set[str]
) -> Iterator[dict[str, Any]]:
    """Calls to try, the plainest first, with unknown widths."""
    sets = [[], known, *([n for n in known if n != left] for left in known), *([n] for n in known)]
    sets = [chosen for i, chosen in enumerate(sets) if chosen not in sets[:i]]
    for computed in (None, *COMPUTED):
        for chosen, layout, repeat in itertools.product(sets, LAYOUTS, (False, True)):
            if repeat and not any("encoder_hidden" in n for n in (*required, *chosen)):
                continue
            shapes = [list(_shapes(name)) for name in (*required, *chosen)]
            for forms in itertools.product(*shapes):
                conditions = {}
                unknown = iter(UNKNOWN[1:])
                for argument, form in zip((*required, *chosen), forms, strict=True):
                    if form is None:  # it is for `computed` to say
                        continue
                    own = {"?": next(unknown), "=": UNKNOWN[0]}
                    shape = [own.get(size, size) for size in form["shape"]]
                    extra = {"layout": layout} if shape[1:] == ["h", "w"] else {}
                    conditions[named(argument)] = {**form, "argument": argument, "shape": shape, **extra}
                if repeat:
                    conditions[next(n for n in conditions if n.startswith("text"))]["repeat"] = True
                if computed is not None and "text" not in conditions:
                    continue
                yield {
                    "latents": {"argument": latents, "layout": layout, "channels": UNKNOWN[0]},
                    "noise_level": {"argument": level},
                    "tokens": {"n": TOKENS},
                    "conditions": conditions,
                    "sizes": sizes,
                    "computed": computed,
                }


def _shapes(argument: str) -> Iterator[dict[str, Any] | None]:
    """What an argument of this name may be."""
    tokens, row = {"shape": ["n", "?"]}, {"shape": ["?"]}
    if "attention_mask" in argument:
        yield from ({"shape": ["n"], "fill": 1, "dtype": dtype} for dtype in ("int64", "bool"))
    elif PICTURED.search(argument):
        yield from ({"shape": [c, "h", "w"]} for c in ("=", "?"))  # as many channels as the latents, or others
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


def _settle(
    model: nn.Module, config: dict[str, Any], data: dict[str, Any]
) -> tuple[Call | None, str, int]:
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
            changed = _mend(data, fault, config, t)
            if changed is None and lengths:
                changed = _with_length(data, lengths.pop())
            if changed is None:
                return None, fault, mended
            data, mended = changed, mended + 1
            continue
        c = inputs["latents"].shape[2]
        if output.shape[2] < c:  # it takes more than it gives back: something lies beside the noisy frames
            beyond = c - output.shape[2]
            data = _copy(data)
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
            data = _copy(data)
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


FAULTS = (
    # (what was given, what was wanted)
    (r"\((?:\d+)x(\d+) and (\d+)x\d+\)", False),
    (r"to have (?P<wanted>\d+) channels, but got (?P<given>\d+) channels", False),
    (r"normalized_shape=\[(?P<wanted>\d+)\].* size ?\[[\d, ]*?(?P<given>\d+)\]", False),
    (r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\)", True),
    (r"Expected size (\d+) but got size (\d+)", True),
)


def _mend(data: dict[str, Any], fault: str, config: dict[str, Any], t: int) -> dict[str, Any] | None:
    """The outline with one width put right, if the fault tells which and to what."""
    for pattern, either in FAULTS:
        found = re.search(pattern, fault)
        if found is None:
            continue
        groups = found.groupdict()
        pairs = [(int(groups["given"]), int(groups["wanted"]))] if groups else []
        if not pairs:
            a, b = int(found.group(1)), int(found.group(2))
            pairs = [(a, b), (b, a)] if either else [(a, b)]
        for given, wanted in pairs:
            for unknown in _unknown(data):
                times, rest = divmod(given, unknown)
                if times >= 1 and rest == 0 and wanted % times == 0 and wanted > 0:
                    return _replaced(data, unknown, wanted // times)
            for unknown in _unknown(data):
                if given > unknown and 0 < wanted - (given - unknown):
                    return _replaced(data, unknown, wanted - (given - unknown))
            if either and given == t and data["latents"].get("frames") is None:
                keys = [k for k, v in config.items() if v == wanted and FRAMES.search(k) and not isinstance(v, bool)]
                if keys:
                    data = _copy(data)
                    data["latents"]["frames"] = keys[0]
                    return data
    return None


def _with_length(data: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The outline with as many tokens of text as the config says there must be."""
    texts = [n for n, c in data["conditions"].items() if n.startswith("text") and c["shape"][:1] == ["n"]]
    if not texts:
        return None
    data = _copy(data)
    for name in texts:
        data["conditions"][name]["shape"][0] = key
    return data


def _unknown(data: dict[str, Any]) -> list[int]:
    sizes = [data["latents"]["channels"], *(s for c in data["conditions"].values() for s in c["shape"])]
    return [size for size in sizes if size in UNKNOWN]


def _replaced(data: dict[str, Any], unknown: int, value: int) -> dict[str, Any]:
    data = _copy(data)
    if data["latents"]["channels"] == unknown:
        data["latents"]["channels"] = value
    for condition in data["conditions"].values():
        condition["shape"] = [value if size == unknown else size for size in condition["shape"]]
    return data


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    conditions = {name: {**c, "shape": list(c["shape"])} for name, c in data["conditions"].items()}
    return {**data, "latents": dict(data["latents"]), "conditions": conditions}


# ------------------------------------------------------------------------------------------------- what it heeds


def _grow(model: nn.Module, config: dict[str, Any], call: Call, known: list[str]) -> Call:
    """The call with every other condition that changes what the base gives, and without those that do not."""
    for name, condition in list(call.conditions.items()):
        if condition.argument in known and not _heeded(model, config, call, name):
            data = _copy(call.model_dump(mode="json"))
            del data["conditions"][name]
            call = _settle(model, config, data)[0] or call
    for argument in known:
        if any(condition.argument == argument for condition in call.conditions.values()):
            continue
        for form in _shapes(argument):
            if form is None:
                continue
            data = _copy(call.model_dump(mode="json"))
            extra = {"layout": call.latents.layout} if form["shape"][1:] == ["h", "w"] else {}
            own = {"?": UNKNOWN[-1], "=": call.latents.channels}
            shape = [own.get(size, size) for size in form["shape"]]
            data["conditions"][named(argument)] = {**form, "argument": argument, "shape": shape, **extra}
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


# ------------------------------------------------------------------------------------------------------- saying it


def _said(model: nn.Module, config: dict[str, Any], call: Call, arguments: set[str]) -> Found:
    """The call in entries of the config, and what is open about it."""
    data, notes = _copy(call.model_dump(mode="json", exclude_defaults=True)), {}
    beside = "anchor" in data["conditions"]
    data["latents"]["channels"] = channels_of(call.latents.channels, config, "out" if beside else "in")
    letters = iter("nmkijlpq")
    data["tokens"] = {}
    by_kind: dict[str, str] = {}
    for name, condition in data["conditions"].items():
        shape = list(condition["shape"])
        if shape[:1] == ["n"]:
            kind = name.replace("words", "text")
            if kind not in by_kind:
                by_kind[kind] = next(letters)
                keys = [k for k in config if TEXT_LENGTHS.search(k) and isinstance(config[k], int)]
                usual = config[keys[0]] if keys and "text" in kind else USUAL_TOKENS["text" if "text" in kind else "image"]
                data["tokens"][by_kind[kind]] = usual
                if not (keys and "text" in kind):
                    notes[f"tokens.{by_kind[kind]}"] = f"how many tokens of {name} the null has is a guess"
            shape[0] = by_kind[kind]
        if shape[1:] == ["h", "w"]:
            shape[0] = (
                difference_of(shape[0], config)
                if name == "anchor"
                else channels_of(shape[0], config, "in")
                if shape[0] == call.latents.channels
                else difference_of(shape[0], config, width_of(name, shape[0], config))
            )
        elif shape and isinstance(shape[-1], int):
            said = width_of(name, shape[-1], config)
            if isinstance(said, int) and condition.get("argument"):
                said = width_of(condition["argument"], shape[-1], config)
            shape[-1] = said
        condition["shape"] = shape
        if condition.get("argument") and not shape:
            notes[f"conditions.{name}"] = "its pipeline says what is given here; 0 is a guess"
        elif shape and len(shape) == 1 and isinstance(shape[0], int):
            notes[f"conditions.{name}"] = "what these numbers are, its pipeline says; zeros are a guess"
        elif name == "anchor":
            notes[f"conditions.{name}"] = "channels beside the noisy frame's: an image's latent, a mask? zeros where not given"
    data["conditions"] = {n: {k: v for k, v in c.items() if v is not None} for n, c in data["conditions"].items()}
    if call.computed is None:
        data.pop("computed", None)
    else:
        notes["computed"] = "these tables run, and the base heeds them; its pipeline says whether they are right"
    said_call = Call.model_validate(data)
    given = {c.argument for c in said_call.conditions.values()} | set(said_call.sizes)
    given |= {said_call.latents.argument, said_call.noise_level.argument}
    left = [n for n in inspect.signature(type(model).forward).parameters if n in arguments - given]
    if call.computed is not None:
        left = [n for n in left if "rot" not in n and "rope" not in n]
    left = [n for n in left if not re.search(r"kwargs|return_dict", n)]
    if left:
        notes["call"] = f"not given, though its pipeline may: {', '.join(left)}"
    return Found(said_call, notes)


__all__ = ["Found", "find_call", "first_that_is", "frames_of", "inputs_of", "run"]

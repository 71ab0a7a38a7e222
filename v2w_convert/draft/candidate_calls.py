"""Candidates for the call of a base's forward, by the names of its arguments."""

import inspect
import itertools
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from v2w_convert.draft.call_adjustments import PLACEHOLDERS, Candidate
from v2w_convert.families import COMPUTED_ARGUMENTS

LAYOUTS = ("b c t h w", "b t c h w", "b t h w c", "b (t h w) c")
SIZE_ARGUMENTS = {"num_frames": "t", "height": "h", "width": "w"}
SPATIAL = re.compile(r"latents$|control_hidden_states$")
CONDITIONS = re.compile(
    rf"{SPATIAL.pattern}|encoder_hidden_states|embed|pooled|guidance|^ofs$|^fps$|timestep|attention_mask|_ids$"
)
NOT_TRIED = re.compile(r"_cond$|^id_|scale$")  # lists, and what only some checkpoints of a class take
IGNORED = re.compile(r"kwargs|return_dict|residual|controlnet|^attention_mask$")  # of no use to a base alone

Form = dict[
    str, Any
]  # `shape`, and other fields of a condition; "?" is an unknown width, "=" the latents' channels


@dataclass(frozen=True)
class Arguments:
    """The arguments of a forward, by what they may be.

    Attributes:
        names: All of them but the ignored ones.
        latents: The noisy frames.
        noise_level: The timestep; None if there is none.
        sizes: Those that receive one of the latents' sizes: name -> t, h or w.
        required: Others without a default.
        optional: Others with a default that may be conditions.
        not_tried: Others for which no value is known.
    """

    names: list[str]
    latents: str
    noise_level: str | None
    sizes: dict[str, str]
    required: list[str]
    optional: list[str]
    not_tried: list[str]


def arguments_of(model: nn.Module) -> Arguments:
    """The arguments of the model's forward."""
    parameters = dict(inspect.signature(type(model).forward).parameters)
    names = [name for name in parameters if name != "self" and not IGNORED.search(name)]
    level = next((name for name in names if re.fullmatch(r"timesteps?|t|sigma", name)), None)
    rest = [
        name
        for name in names[1:]
        if name != level and name not in SIZE_ARGUMENTS and not NOT_TRIED.search(name)
    ]
    required = [name for name in rest if parameters[name].default is inspect.Parameter.empty]
    optional = [
        name
        for name in rest
        if name not in required and CONDITIONS.search(name) and "Tensor" in str(parameters[name].annotation)
    ]
    sizes = {name: letter for name, letter in SIZE_ARGUMENTS.items() if name in names}
    not_tried = [name for name in names if NOT_TRIED.search(name)]
    return Arguments(names, names[0], level, sizes, required, optional, not_tried)


def candidate_calls(arguments: Arguments, config: dict[str, Any]) -> Iterator[Candidate]:
    """Calls to try, the simplest first, with placeholders for unknown widths."""
    for computed, channels, repeat, optional, layout in itertools.product(
        _computed_arguments(arguments),
        _channels(arguments, config),
        (False, True),
        _subsets(arguments.optional),
        LAYOUTS,
    ):
        names = (*arguments.required, *optional)
        for forms in itertools.product(*(list(forms_of(name)) for name in names)):
            conditions = _conditions(names, forms, channels, layout)
            texts = [name for name in conditions if name.startswith("text")]
            if (computed is not None or repeat) and not texts:
                continue
            if repeat:
                conditions[texts[0]]["repeat_per_frame"] = True
            yield {
                "latents": {"argument": arguments.latents, "layout": layout, "channels": channels},
                "noise_level": {"argument": arguments.noise_level},
                "token_counts": {"n": 1},
                "conditions": conditions,
                "size_arguments": arguments.sizes,
                "computed_arguments": computed,
            }


def condition_of(argument: str, form: Form, placeholder: int, channels: int, layout: str) -> Candidate:
    """A condition of a candidate.

    Args:
        argument: Of the forward.
        form: One of `forms_of(argument)`.
        placeholder: For its width, if that is unknown.
        channels: Of a latent.
        layout: Of the latents.
    """
    shape = [{"?": placeholder, "=": channels}.get(size, size) for size in form["shape"]]
    spatial = {"layout": layout} if shape[1:] == ["h", "w"] else {}
    return {**form, "argument": argument, "shape": shape, **spatial}


def forms_of(argument: str) -> Iterator[Form | None]:
    """What an argument of this name may be; None: what `computed_arguments` returns."""
    tokens: Form = {"shape": ["n", "?"]}
    row: Form = {"shape": ["?"]}
    if "attention_mask" in argument:
        yield from ({"shape": ["n"], "fill": 1, "dtype": dtype} for dtype in ("int64", "bool"))
    elif SPATIAL.search(argument):
        yield {"shape": ["=", "h", "w"]}
        yield {"shape": ["?", "h", "w"]}
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


def condition_name(argument: str, others: Container[str]) -> str:
    """The name in the plan of a condition: what it is, or the argument if another condition has that name."""
    name = _usual_name(argument)
    return argument if name in others else name


def _usual_name(argument: str) -> str:
    numbered = re.search(r"(_2|_t5)$", argument)
    suffix = numbered.group() if numbered else ""
    if "attention_mask" in argument:
        return f"text_mask{suffix}"
    if "image" in argument and SPATIAL.search(argument) is None and "rotary" not in argument:
        return "image_embeds"
    if "pooled" in argument:
        return "pooled_text"
    if argument.startswith("encoder_hidden_states"):
        return f"text{suffix}"
    return argument


def _conditions(
    names: tuple[str, ...], forms: tuple[Form | None, ...], channels: int, layout: str
) -> dict[str, Candidate]:
    """The conditions of a candidate, each with a placeholder of its own."""
    unused = itertools.cycle(PLACEHOLDERS[1:])
    conditions: dict[str, Candidate] = {}
    for argument, form in zip(names, forms, strict=True):
        if form is not None:
            name = condition_name(argument, conditions)
            conditions[name] = condition_of(argument, form, next(unused), channels, layout)
    return conditions


def _computed_arguments(arguments: Arguments) -> list[str | None]:
    """The functions of families to try, if a required argument is what such a function returns."""
    if all(form is not None for name in arguments.required for form in forms_of(name)):
        return [None]
    return [*COMPUTED_ARGUMENTS]


def _channels(arguments: Arguments, config: dict[str, Any]) -> list[int]:
    """How many channels a latent may have: a placeholder, after what the config suggests."""
    out = config.get("out_channels")
    # Where pictures are concatenated to the noisy frames, the base takes more channels than it returns.
    suggested = isinstance(out, int) and any(SPATIAL.search(name) for name in arguments.optional)
    return [out, PLACEHOLDERS[0]] if suggested and isinstance(out, int) else [PLACEHOLDERS[0]]


def _subsets(optional: list[str]) -> list[list[str]]:
    """Which optional arguments to give, in order: at most two, all, all but one."""
    subsets = [list(few) for n in range(3) for few in itertools.combinations(optional, n)]
    subsets += [optional, *([name for name in optional if name != left_out] for left_out in optional)]
    return [subset for i, subset in enumerate(subsets) if subset not in subsets[:i]]

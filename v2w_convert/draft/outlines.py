"""What the names of a forward's arguments say of a call: outlines of calls to try."""

import inspect
import itertools
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from v2w_convert.draft.mend import UNKNOWN, Outline
from v2w_convert.families import COMPUTED_ARGUMENTS

LAYOUTS = ("b c t h w", "b t c h w", "b t h w c", "b (t h w) c")
SIZES = {"num_frames": "t", "height": "h", "width": "w"}
PICTURED = re.compile(r"latents$|control_hidden_states$")
CONDITIONS = re.compile(
    rf"{PICTURED.pattern}|encoder_hidden_states|embed|pooled|guidance|^ofs$|^fps$|timestep|attention_mask|_ids$"
)
NEVER = re.compile(r"_cond$|^id_|scale$")  # lists, and what only some checkpoints of a class take
OPTIONS = re.compile(r"kwargs|return_dict|residual|controlnet|^attention_mask$")  # of no use to a base alone


@dataclass(frozen=True)
class Arguments:
    """A forward's arguments by what they may be. Not all of those that it can do without are `known`."""

    every: list[str]
    latents: str
    level: str | None
    sizes: dict[str, str]
    required: list[str]
    known: list[str]
    never: list[str]


def arguments_of(model: nn.Module) -> Arguments:
    parameters = dict(inspect.signature(type(model).forward).parameters)
    every = [name for name in parameters if name != "self" and not OPTIONS.search(name)]
    level = next((name for name in every if re.fullmatch(r"timesteps?|t|sigma", name)), None)
    rest = [name for name in every[1:] if name != level and name not in SIZES and not NEVER.search(name)]
    required = [name for name in rest if parameters[name].default is inspect.Parameter.empty]
    known = [
        name
        for name in rest
        if name not in required and CONDITIONS.search(name) and "Tensor" in str(parameters[name].annotation)
    ]
    sizes = {name: letter for name, letter in SIZES.items() if name in every}
    never = [name for name in every if NEVER.search(name)]
    return Arguments(every, every[0], level, sizes, required, known, never)


def outlines(taken: Arguments, config: dict[str, Any]) -> Iterator[Outline]:
    """Calls to try, the plainest first, with unknown widths."""
    required, known = taken.required, taken.known
    sets = [list(few) for n in range(3) for few in itertools.combinations(known, n)]
    sets += [known, *([n for n in known if n != left] for left in known)]
    sets = [chosen for i, chosen in enumerate(sets) if chosen not in sets[:i]]
    tables = (
        [None] if all(form is not None for n in required for form in shapes_of(n)) else [*COMPUTED_ARGUMENTS]
    )
    channels: list[int] = [UNKNOWN[0]]
    if isinstance(config.get("out_channels"), int) and any(PICTURED.search(n) for n in known):
        channels.insert(0, config["out_channels"])  # what is put beside them has channels of its own
    for computed, c, repeat, chosen, layout in itertools.product(
        tables, channels, (False, True), sets, LAYOUTS
    ):
        arguments = (*required, *chosen)
        for forms in itertools.product(*(list(shapes_of(name)) for name in arguments)):
            unknown = itertools.cycle(UNKNOWN[1:])
            conditions: dict[str, Outline] = {}
            for argument, form in zip(arguments, forms, strict=True):
                if form is not None:  # else it is for `computed` to say
                    name = named(argument, conditions)
                    conditions[name] = condition_of(argument, form, next(unknown), c, layout)
            texts = [name for name in conditions if name.startswith("text")]
            if (computed is not None or repeat) and not texts:
                continue
            if repeat:
                conditions[texts[0]]["repeat_per_frame"] = True
            yield {
                "latents": {"argument": taken.latents, "layout": layout, "channels": c},
                "noise_level": {"argument": taken.level},
                "token_counts": {"n": 1},
                "conditions": conditions,
                "size_arguments": taken.sizes,
                "computed_arguments": computed,
            }


def condition_of(
    argument: str, form: dict[str, Any], unknown: int, channels: int, layout: str
) -> dict[str, Any]:
    shape = [{"?": unknown, "=": channels}.get(size, size) for size in form["shape"]]
    pictured = {"layout": layout} if shape[1:] == ["h", "w"] else {}
    return {**form, "argument": argument, "shape": shape, **pictured}


def shapes_of(argument: str) -> Iterator[dict[str, Any] | None]:
    """What an argument of this name may be."""
    tokens, row = {"shape": ["n", "?"]}, {"shape": ["?"]}
    if "attention_mask" in argument:
        yield from ({"shape": ["n"], "fill": 1, "dtype": dtype} for dtype in ("int64", "bool"))
    elif PICTURED.search(argument):
        yield {"shape": ["=", "h", "w"]}  # as many channels as the latents
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


def named(argument: str, others: Container[str]) -> str:
    """A condition's name in the plan, which no other has: what it is about, or the argument's."""
    name = _about(argument)
    return argument if name in others else name


def _about(argument: str) -> str:
    numbered = re.search(r"(_2|_t5)$", argument)
    suffix = numbered.group() if numbered else ""
    if "attention_mask" in argument:
        return f"words{suffix}"
    if "image" in argument and PICTURED.search(argument) is None and "rotary" not in argument:
        return "image_embeds"
    if "pooled" in argument:
        return "pooled_text"
    if argument.startswith("encoder_hidden_states"):
        return f"text{suffix}"
    return argument

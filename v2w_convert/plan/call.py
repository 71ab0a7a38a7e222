"""Call a base as its plan says."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from v2w_convert.expression import evaluate_int, evaluate_number
from v2w_convert.families import COMPUTED_ARGUMENTS
from v2w_convert.plan.grammar import Call, Condition

Conditions = dict[str, Tensor]
DTYPES = {"int64": torch.int64, "bool": torch.bool}


def condition_shape(
    call: Call, name: str, config: dict[str, Any], h: int = 0, w: int = 0, tokens: int | None = None
) -> tuple[int, ...]:
    """The shape of one clip's condition for latents of h × w, without batch; `tokens` instead of the plan's numbers."""
    letters = {letter: count if tokens is None else tokens for letter, count in call.token_counts.items()}
    letters |= {"h": h, "w": w}
    return tuple(
        letters[size] if size in letters else evaluate_int(size, config)
        for size in call.conditions[name].shape
    )


def null_condition(
    call: Call, name: str, config: dict[str, Any], h: int = 0, w: int = 0, tokens: int | None = None
) -> Tensor:
    """What is given where the user gives nothing, without batch."""
    condition = call.conditions[name]
    dtype = DTYPES.get(condition.dtype, torch.float32)
    fill = torch.tensor(fill_value(condition, config), dtype=dtype)
    return fill.expand(condition_shape(call, name, config, h, w, tokens)).clone()


def fill_value(condition: Condition, config: dict[str, Any]) -> float | list[float]:
    """What the null holds, in numbers. Raises ValueError."""
    return condition.fill if isinstance(condition.fill, list) else evaluate_number(condition.fill, config)


def condition_fits(
    call: Call, name: str, config: dict[str, Any], shape: tuple[int, ...], h: int = 0, w: int = 0
) -> bool:
    """Whether a condition of this shape, without batch, may be given: tokens may be any number of them."""
    sizes, wanted = call.conditions[name].shape, condition_shape(call, name, config, h, w)
    return len(shape) == len(wanted) and all(
        size in call.token_counts or a == b for size, a, b in zip(sizes, shape, wanted, strict=True)
    )


def null_conditions(call: Call, config: dict[str, Any]) -> Conditions:
    """The nulls that a converted model stores: all but those which are as large as a frame."""
    return {
        name: null_condition(call, name, config)
        for name, c in call.active_conditions(config).items()
        if not c.is_spatial
    }


def per_frame_inputs(
    call: Call, config: dict[str, Any], latents: Tensor, conditions: Conditions
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Conditions]]]:
    """All that a base is given for every frame as one tensor (b t c' h w): latents (b t c h w), and after their channels
    those of conditions (b …). And what makes of such a tensor latents and conditions, as `call_base` takes them.

    Where frames of the former mix is where frames mix, of whatever the base is told. Only the first frame's conditions are
    always those that were given: some bases show that picture to every frame (I2VGen-XL), as if it were a prompt.
    """
    t = latents.shape[1]
    names = [name for name, condition in call.active_conditions(config).items() if condition.is_per_frame]
    pictures = [conditions[name].to(latents)[:, None].expand(-1, t, -1, -1, -1) for name in names]
    channels = [x.shape[2] for x in (latents, *pictures)]

    def apart(x: Tensor) -> tuple[Tensor, Conditions]:
        own, *others = x.split(channels, 2)
        kept = [
            torch.cat([first[:, :1], other[:, 1:]], 1) for first, other in zip(pictures, others, strict=True)
        ]
        return own, conditions | dict(zip(names, kept, strict=True))

    return torch.cat([latents, *pictures], 2), apart


def call_base(
    model: nn.Module,
    call: Call,
    config: dict[str, Any],
    latents: Tensor,
    timestep: Tensor,
    conditions: Conditions,
) -> Tensor:
    """The base's output (b t c h w) for clips of latents (b t c h w).

    timestep    (b,), the noise level as the base is told it
    config      the base's
    conditions  all that the plan gives such a base, (b …): one of each for a clip. What the base is given for every frame
                may differ from frame to frame, (b t c h w)
    """
    b, t, c, h, w = latents.shape
    sizes = {"t": t, "h": h, "w": w}
    given: list[Tensor] = [latents]
    arguments: dict[str, Any] = {}
    for name, condition in call.active_conditions(config).items():
        value = conditions[name]
        if condition.dtype == "float":
            value = value.to(latents.dtype)
        if condition.is_per_frame and value.ndim == 4:
            value = value[:, None].expand(b, t, *value.shape[1:])
        if condition.argument is None:
            given.append(value)
        else:
            if condition.layout is not None:
                value = rearrange(value, f"b t c h w -> {condition.layout}")
            arguments[condition.argument] = (
                value.repeat_interleave(t, 0) if condition.repeat_per_frame else value
            )
    layout = call.latents.layout
    arguments[call.latents.argument] = rearrange(torch.cat(given, 2), f"b t c h w -> {layout}")
    arguments[call.noise_level.argument] = timestep
    arguments |= {name: sizes[letter] for name, letter in call.size_arguments.items()}
    arguments |= call.constants
    if call.computed_arguments is not None:
        arguments |= COMPUTED_ARGUMENTS[call.computed_arguments](config, t, h, w, conditions["text"], latents)
    output = model(**arguments, return_dict=False)
    if isinstance(output, tuple):
        output = output[0]
    # Some bases also predict a variance, in channels of its own after the ones asked for.
    return rearrange(output, f"{layout} -> b t c h w", **sizes)[:, :, :c]

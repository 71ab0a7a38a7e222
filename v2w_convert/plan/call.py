"""Call a base as its plan says."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from v2w_convert.plan.grammar import Call

Conditions = dict[str, Tensor]


def number(value: int | str, config: dict[str, Any]) -> int:
    """A number in a plan, or the one that the base's config has under that name."""
    return value if isinstance(value, int) else int(config[value])


def null_conditions(call: Call, config: dict[str, Any]) -> Conditions:
    """What is given where the user gives nothing, without batch: `text` (n d), zeros.

    The anchor is not among them: it is as large as a frame, and zeros too.
    """
    if call.text is None:
        return {}
    return {"text": torch.zeros(call.text.tokens, number(call.text.width, config))}


def call_base(
    model: nn.Module, call: Call, latents: Tensor, timestep: Tensor, conditions: Conditions
) -> Tensor:
    """The base's output (b t c h w) for clips of latents (b t c h w).

    timestep    (b,), the noise level as the base is told it
    conditions  `text` (b n d); `anchor` (b c h w), given to every frame; zeros where it is missing
    """
    b, t, _, h, w = latents.shape
    given = latents
    if call.latents.concatenate is not None:
        anchor = conditions.get(call.latents.concatenate)
        anchor = torch.zeros_like(latents) if anchor is None else anchor[:, None].expand(b, t, -1, h, w)
        given = torch.cat([latents, anchor.to(latents.dtype)], 2)
    arguments: dict[str, Tensor] = {
        call.latents.argument: rearrange(given, f"b t c h w -> {call.latents.layout}"),
        call.noise_level.argument: timestep,
    }
    if call.text is not None:
        arguments[call.text.argument] = conditions["text"].to(latents.dtype)
    for name, row in call.constants.items():
        arguments[name] = torch.tensor(row, dtype=latents.dtype, device=latents.device).expand(b, -1)
    output = model(**arguments, return_dict=False)[0]
    return rearrange(output, f"{call.latents.layout} -> b t c h w")

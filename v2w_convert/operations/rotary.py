"""Rotary positions in time, applied where queries meet keys.

The base is called one block at a time, so its own rotation sees every frame at position 0. Rotations add up: rotating
the temporal part of each head by the block's position gives what the base gives to a whole clip, up to the precision
of the base's own table. (RoFormer, arXiv 2104.09864.)
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from v2w_convert.expression import ConfigFloat, ConfigInt, evaluate_int, evaluate_number


class Rotary(BaseModel):
    """The part of each head that is rotated by the frame's position. Numbers may be expressions over the base's config."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    start: ConfigInt = Field(default=0, description="First channel of that part.")
    size: ConfigInt = Field(description="How many channels it has, an even number.")
    theta: ConfigFloat = Field(
        default=10000.0,
        description="Channel pair i of n rotates by `theta ** (-i / n)` radians per frame; by "
        "`theta ** (i / (n - 1))` where `ascending`.",
    )
    scale: ConfigFloat = Field(default=1.0, description="A factor on all angles.")
    ascending: bool = Field(default=False, description="Whether the frequencies ascend with the channels.")
    pairing: Literal["interleaved", "half", "half_head"] = Field(
        default="interleaved",
        description="Which channels are a pair. `interleaved`: 2i and 2i + 1; `half`: i and i + n of the part; "
        "`half_head`: i and i + half a head, counted from `start`.",
    )
    stride: int = Field(
        default=1,
        ge=1,
        description="Interleaved pairs only: every so many pairs, one is of time, beginning with the first.",
    )
    heads: Literal["separate", "joined"] = Field(
        default="separate",
        description="`separate`: all heads rotate alike; `joined`: as one, channels counted through all of them.",
    )
    learned: str | None = Field(
        default=None,
        description="A parameter (axes heads size/2) of the base whose first row says how far time rotates each pair; "
        "`theta` then says nothing.",
    )

    def resolve(self, config: Mapping[str, Any]) -> Self:
        """The same with numbers in place of expressions.

        Raises:
            ValueError: An expression cannot be evaluated, or the part cannot be rotated in pairs.
        """
        size = evaluate_int(self.size, config)
        if size < 2 or size % 2:
            raise ValueError(f"rotary: a part of {size} channels cannot be rotated in pairs")
        return self.model_copy(
            update={
                "start": evaluate_int(self.start, config),
                "size": size,
                "theta": evaluate_number(self.theta, config),
                "scale": evaluate_number(self.scale, config),
            }
        )

    def rotate(self, x: Tensor, positions: Tensor, learned: Tensor | None = None) -> Tensor:
        """Rotate by positions in time, in at least float32. For a resolved rotary only.

        Args:
            x: (… heads t l d) queries or keys.
            positions: (t,) in frames.
            learned: The value of the parameter that `learned` names.

        Returns:
            Of x's shape and dtype.
        """
        heads, width = x.shape[-4], x.shape[-1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.heads == "joined":
            wide = wide.movedim(-4, -2).flatten(-2).unsqueeze(-4)
        first, second = self._channels(wide.shape[-1])
        frequencies = self._frequencies(x.device) if learned is None else learned[0].double()[:, None, None]
        angle = positions.double()[:, None, None] * frequencies  # (heads) t 1 size/2
        cos, sin = angle.cos().to(wide.dtype), angle.sin().to(wide.dtype)
        a, b = wide[..., first], wide[..., second]
        rotated = wide.clone()
        rotated[..., first] = a * cos - b * sin
        rotated[..., second] = a * sin + b * cos
        if self.heads == "joined":
            rotated = rotated.squeeze(-4).unflatten(-1, (heads, width)).movedim(-2, -4)
        return rotated.to(x.dtype)

    def _frequencies(self, device: torch.device) -> Tensor:
        """How far each pair rotates from one frame to the next, in radians: (size/2,) float64."""
        n = self.size // 2
        i = torch.arange(n, dtype=torch.float64, device=device)
        exponent = i / max(n - 1, 1) if self.ascending else -i / n
        return float(self.scale) * float(self.theta) ** exponent

    def _channels(self, width: int) -> tuple[slice, slice]:
        """Which channels of `width` are the first of each pair, and which the second."""
        start, size = self.start, self.size
        half = size // 2
        match self.pairing:
            case "interleaved":
                step = 2 * self.stride
                return slice(start, start + half * step, step), slice(start + 1, start + half * step, step)
            case "half":
                return slice(start, start + half), slice(start + half, start + size)
            case "half_head":
                middle = start + width // 2
                return slice(start, start + half), slice(middle, middle + half)

"""Rotary positions in time, applied where queries meet keys.

The base is called one block at a time, so its own rotation sees every frame at place 0. Rotations add up: turning
the temporal part of each head by the block's place gives what the base gives to a whole clip, up to the precision
of the base's own table. (RoFormer, arXiv 2104.09864.)
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from v2w_convert.expression import evaluate_int, evaluate_number


class Rotary(BaseModel):
    """The part of each head that is turned by the frame's place; numbers may be worked out from the base's config.

    start    first channel of that part
    size     how many channels it has, an even number
    theta    channel pair i of n turns by theta ** (-i / n) per frame; by theta ** (i / (n - 1)) where `ascending`
    scale    times this
    pairing  `interleaved`: channels 2i and 2i + 1; `half`: i and i + n of the part; `half_head`: i and
             i + half a head, counted from `start`
    stride   interleaved pairs only: how many pairs there are to one of time, which comes first
    heads    `separate`: all are turned alike; `joined`: as one, channels counted through all of them
    learned  a parameter (axes heads size/2) of the base, whose first row says how far time turns each pair; theta
             then says nothing
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    start: int | str = 0
    size: int | str
    theta: float | str = 10000.0
    scale: float | str = 1.0
    ascending: bool = False
    pairing: Literal["interleaved", "half", "half_head"] = "interleaved"
    stride: int = Field(default=1, ge=1)
    heads: Literal["separate", "joined"] = "separate"
    learned: str | None = None

    def resolve(self, config: Mapping[str, Any]) -> "Rotary":
        """The same in numbers. Raises ValueError."""
        size = evaluate_int(self.size, config)
        if size < 2 or size % 2:
            raise ValueError(f"rotary: a part of {size} channels cannot be turned in pairs")
        return self.model_copy(
            update={
                "start": evaluate_int(self.start, config),
                "size": size,
                "theta": evaluate_number(self.theta, config),
                "scale": evaluate_number(self.scale, config),
            }
        )

    def rotate(self, x: Tensor, places: Tensor, learned: Tensor | None = None) -> Tensor:
        """x (… heads t l d) turned by `places` (t,) frames, in at least float32, returned in its own dtype."""
        assert isinstance(self.start, int) and isinstance(self.size, int), "the plan is not resolved"
        heads, width = x.shape[-4], x.shape[-1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.heads == "joined":
            wide = wide.movedim(-4, -2).flatten(-2).unsqueeze(-4)
        first, second = self._channels(wide.shape[-1])
        turns = self._turns(x.device) if learned is None else learned[0].double()[:, None, None]
        angle = places.double()[:, None, None] * turns  # (heads) t 1 size/2
        cos, sin = angle.cos().to(wide.dtype), angle.sin().to(wide.dtype)
        a, b = wide[..., first], wide[..., second]
        turned = wide.clone()
        turned[..., first] = a * cos - b * sin
        turned[..., second] = a * sin + b * cos
        if self.heads == "joined":
            turned = turned.squeeze(-4).unflatten(-1, (heads, width)).movedim(-2, -4)
        return turned.to(x.dtype)

    def _turns(self, device: torch.device) -> Tensor:
        """By how much each pair turns from one frame to the next, in radians."""
        n = int(self.size) // 2
        i = torch.arange(n, dtype=torch.float64, device=device)
        exponent = i / max(n - 1, 1) if self.ascending else -i / n
        return float(self.scale) * float(self.theta) ** exponent

    def _channels(self, width: int) -> tuple[slice, slice]:
        """Which channels are the first of each pair, and which the second."""
        start, size = int(self.start), int(self.size)
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

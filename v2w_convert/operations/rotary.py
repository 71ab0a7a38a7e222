"""Rotary positions in time, applied where queries meet keys.

The base is called one block at a time, so its own rotation sees every frame at place 0. Rotations add up: turning
the temporal part of each head by the block's place gives what the base gives to a whole clip, up to the precision
of the base's own table. (RoFormer, arXiv 2104.09864.)
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from v2w_convert.expression import number, real


class Rotary(BaseModel):
    """The part of each head that is turned by the frame's place; numbers may be worked out from the base's config.

    start    first channel of that part
    size     how many channels it has, an even number
    theta    channel pair i of n turns by theta ** (-i / n) per frame
    scale    times this
    pairs    `adjacent`: channels 2i and 2i + 1; `halves`: i and i + n of the part; `halves of the head`: i and
             i + half a head, counted from `start`
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    start: int | str = 0
    size: int | str
    theta: float | str = 10000.0
    scale: float | str = 1.0
    pairs: Literal["adjacent", "halves", "halves of the head"] = "adjacent"

    def definite(self, config: Mapping[str, Any]) -> "Rotary":
        """The same in numbers. Raises ValueError."""
        size = number(self.size, config)
        if size < 2 or size % 2:
            raise ValueError(f"rotary: a part of {size} channels cannot be turned in pairs")
        return Rotary(
            start=number(self.start, config),
            size=size,
            theta=real(self.theta, config),
            scale=real(self.scale, config),
            pairs=self.pairs,
        )

    def rotate(self, x: Tensor, places: Tensor) -> Tensor:
        """x (… heads t l d) turned by `places` (t,) frames, in at least float32, returned in its own dtype."""
        assert isinstance(self.start, int) and isinstance(self.size, int), "the plan is not resolved"
        first, second = self._channels(x.shape[-1])
        turns = torch.arange(self.size // 2, dtype=torch.float64, device=x.device) * (-2 / self.size)
        angle = places.double()[:, None] * (float(self.scale) * float(self.theta) ** turns)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        cos, sin = (f.to(wide.dtype)[:, None] for f in (angle.cos(), angle.sin()))
        a, b = wide[..., first], wide[..., second]
        turned = wide.clone()
        turned[..., first] = a * cos - b * sin
        turned[..., second] = a * sin + b * cos
        return turned.to(x.dtype)

    def _channels(self, width: int) -> tuple[slice, slice]:
        """Which channels are the first of each pair, and which the second."""
        start, size = int(self.start), int(self.size)
        half = size // 2
        match self.pairs:
            case "adjacent":
                return slice(start, start + size, 2), slice(start + 1, start + size, 2)
            case "halves":
                return slice(start, start + half), slice(start + half, start + size)
            case "halves of the head":
                middle = start + width // 2
                return slice(start, start + half), slice(middle, middle + half)

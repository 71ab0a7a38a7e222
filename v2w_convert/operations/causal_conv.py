"""Temporal convolutions that read the past only.

Kernel transfer: Vid2World, arXiv 2505.14357, section 4.1 and appendix A.1 to A.3, for any odd kernel.
With taps w[-m] … w[m] of the base and w'[-2m] … w'[0] of the causal kernel (k = 2m + 1 of both):

    shift           w'[j] = w[j + m]: the base, m frames late
    masked          w'[j] = w[j] where the base has such a tap: the base without its future
    extrapolative   masked, and the future frames replaced by the straight line that fits the last p
                    frames best; p = 1 repeats the last frame, p = 2 is the paper's choice
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from v2w_convert.operations.base import (
    DraftFields,
    DraftSite,
    Invariant,
    Operation,
    ReceptiveField,
    clip_context,
    max_abs_diff,
)
from v2w_convert.sites import Site, swap_class

Transfer = Literal["shift", "masked", "extrapolative"]
CHUNK = 2**18  # numbers that are transferred at once, so that they stay in the processor's cache
FUNCTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}  # by axes


class CausalConv(Operation):
    """A convolution over time that reads a frame and earlier frames."""

    name: ClassVar[str] = "causal_conv"
    mixes: ClassVar[bool] = True
    options: ClassVar[tuple[str, ...]] = ("transfer",)

    transfer: Transfer = Field(
        default="masked",
        description="How the base's taps become taps on the past. `shift`: the base, half a kernel late; `masked`: the "
        "base without its future taps; `extrapolative`: masked, with a straight line in place of the future.",
    )
    points: int | None = Field(
        default=None,
        ge=1,
        validate_default=True,
        description="Frames that the extrapolated line is fitted to, at most the kernel's size; 2 where not given.",
    )
    before_first: Literal["zeros", "hold"] = Field(
        default="zeros",
        description="What lies before the first frame: `zeros`, as the base pads, or the first frame, held.",
    )

    @field_validator("points")
    @classmethod
    def _points_belong_to_extrapolation(cls, points: int | None, info: ValidationInfo) -> int | None:
        transfer = info.data.get("transfer")
        if points is not None and transfer != "extrapolative":
            raise ValueError(f"goes with transfer: extrapolative, not {transfer}")
        return 2 if points is None and transfer == "extrapolative" else points

    def why_not(self, module: Any) -> str | None:
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return f"is a {type(module).__name__}, not a convolution"
        k = module.kernel_size[0]
        if k % 2 == 0 or k < 3:
            return f"has a temporal kernel of {k}, not an odd one of 3 or more"
        if module.stride[0] != 1 or module.dilation[0] != 1:
            return f"has temporal stride {module.stride[0]} and dilation {module.dilation[0]}, not 1"
        if module.padding_mode != "zeros" or module.padding[0] != k // 2:
            return f"is padded by {module.padding[0]} ({module.padding_mode}) in time, not by {k // 2} zeros"
        if self.points is not None and self.points > k:
            return f"has {k} taps, too few for a line through {self.points} points"
        return None

    def transfer_tensor(self, parameter: str, tensor: Tensor) -> Tensor | None:
        if parameter != "weight" or self.transfer == "shift":
            return None
        return transfer_kernel(tensor, self.points or 0)

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(module, CausalConvSite, name, hold=self.before_first == "hold")

    @classmethod
    def adjusted(cls, fields: dict[str, Any], option: str, value: Any) -> dict[str, Any]:
        rest = {key: kept for key, kept in fields.items() if key != "points" or value == "extrapolative"}
        return super().adjusted(rest, option, value)

    @classmethod
    def draft(cls, site: DraftSite) -> DraftFields:
        return DraftFields({"transfer": "masked", "before_first": "zeros"})

    def receptive_field(self, module: Any, frames_per_block: int) -> ReceptiveField:
        return ReceptiveField(-(-(module.kernel_size[0] - 1) // frames_per_block))

    def min_frames(self, module: Any) -> int:
        return int(module.kernel_size[0]) + 1

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        k = base.kernel_size[0]
        m, t = k // 2, 2 * k + 1
        size = [3] * (len(base.kernel_size) - 1)

        def sample(frames: int) -> Tensor:
            return torch.randn(1, base.in_channels, frames, *size, generator=generator, dtype=torch.float64)

        if self.transfer != "extrapolative":
            clip = sample(t)
        elif self.points == 1:
            clip = sample(1).expand(-1, -1, t, *size)
        else:
            clip = sample(1) + sample(1) * torch.arange(t, dtype=torch.float64).view(-1, *[1] * len(size))
        site.context = clip_context(1, t)
        after, before = site.unfold(site(site.fold(clip))), base(clip)

        held = self.before_first == "hold"
        if self.transfer == "masked":
            sentence, frames = "equals the base without its future taps", slice(0, t)
            edge = clip[:, :, :1].expand(-1, -1, m, *size) * held
            taps, padding = base.weight[:, :, : m + 1], (0, *base.padding[1:])
            before = _function(base)(torch.cat([edge, clip], 2), taps, base.bias, 1, padding, 1, base.groups)
        elif self.transfer == "shift":
            sentence, frames = f"equals the base {m} frame(s) late", slice(2 * m if held else m, t)
            before = before.roll(m, 2)
        else:
            motion = "still" if self.points == 1 else "affine in time"
            sentence, frames = (
                f"equals the base on a clip that is {motion}",
                slice(max(m, (self.points or 1) - 1), t - m),
            )
        # Taps that were computed were rounded once, to the stored dtype, and weigh at most 1 + 2k base taps;
        # otherwise there is only the rounding of the sum itself.
        terms = base.weight[0].numel()
        per_term = (1 + 2 * k) * unit if self.transfer == "extrapolative" else 0.0
        total = float(base.weight.detach().abs().flatten(1).sum(1).max() * clip.abs().max())
        allowed = total * (per_term + terms * torch.finfo(torch.float64).eps)
        return [Invariant(sentence, max_abs_diff(after[:, :, frames], before[:, :, frames]), allowed)]


def transfer_kernel(weight: Tensor, points: int) -> Tensor:
    """The causal kernel of a base's kernel, as exact arithmetic rounded once.

    Args:
        weight: (o i k …), the base's kernel.
        points: Of the line that replaces the future; 0: nothing replaces it (masked).

    Returns:
        Of the same shape and dtype.
    """
    k = weight.shape[2]
    m = k // 2
    result = torch.zeros_like(weight, memory_format=torch.contiguous_format)
    # The base's tap i lies at time i - m, the result's at time i - 2m.
    result[:, :, m:] = weight[:, :, : m + 1]
    if not points:
        return result
    # A sum of two is rounded correctly in float32 (and then to the stored dtype); a longer one would lose digits.
    arithmetic = torch.float32 if k == 3 and points <= 2 else torch.float64
    arithmetic = torch.promote_types(weight.dtype, arithmetic)
    rows = max(1, CHUNK // max(1, weight[0].numel()))
    for base, causal in zip(weight.split(rows), result.split(rows), strict=True):
        taps = base.to(arithmetic).unbind(2)
        for back in range(points):
            tap = taps[m - back] if back <= m else torch.zeros_like(taps[0])
            for ahead in range(1, m + 1):
                tap = tap + _line(ahead, back, points) * taps[m + ahead]
            causal[:, :, k - 1 - back] = tap
    return result


def _line(ahead: int, back: int, points: int) -> float:
    """The weight of the frame `back` steps ago in the least-squares line's value `ahead` steps from now.

    The paper's gamma in closed form (appendix A.3): 1/p + (i + (p-1)/2) ((p-1)/2 - j) / S, S = p (p^2 - 1) / 12.
    """
    if points == 1:
        return 1.0
    middle = Fraction(points - 1, 2)
    spread = Fraction(points * (points**2 - 1), 12)
    return float(Fraction(1, points) + (ahead + middle) * (middle - back) / spread)


def _function(module: Any) -> Callable[..., Tensor]:
    """The function of a convolution of 1, 2 or 3 axes."""
    return FUNCTIONS[module.weight.ndim - 2]


class CausalConvSite(Site):
    """A convolution over time (axis 2 of its input) whose output t reads inputs t-k+1 … t.

    Input and output are folded: ((b t) c n …). Stream state: `inputs` (b c k-1 …), the last inputs.

    Attributes:
        hold: Whether the first frame, and not zeros, lies before the first frame.
    """

    hold: bool
    kernel_size: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        frames = self.unfold(x)
        if self.context.bidirectional:
            return self.fold(super().forward(frames))
        reach = self.kernel_size[0] - 1
        first = frames[:, :, :1]
        edge = first.expand(-1, -1, reach, *first.shape[3:]) if self.hold else None
        if self.past is None:
            past = torch.zeros_like(first.expand(-1, -1, reach, *first.shape[3:])) if edge is None else edge
        else:
            past = self.past["inputs"]
            if edge is not None:
                past = torch.where(self.context.cursor == 0, edge, past)
        after = frames.shape[2] // self.context.t * self.context.committed
        frames = torch.cat([past, frames], 2)
        self.keep({"inputs": frames[:, :, after : after + reach]})
        padding = (0, *self.padding[1:])
        return self.fold(
            _function(self)(frames, self.weight, self.bias, 1, padding, self.dilation, self.groups)
        )

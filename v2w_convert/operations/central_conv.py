"""A convolution that was made causal along the image's height, by mistake, becomes central again.

Such a convolution is in Vid2World's released checkpoints. Row y reads rows y - 2, y - 1 and y by taps a, b and c. A central kernel reads rows y - 1, y and y + 1. With the row two
above replaced by the line through the two below it, x[y-2] = 2 x[y-1] - x[y], the taps become b + 2a, c - a and 0; training
is then free to use the last.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.sites import Site, swap_class


class CentralConv(Operation):
    """Taps on the three rows that end at a row become taps on the rows around it."""

    name: ClassVar[str] = "central_conv"

    def why_not(self, module: Any) -> str | None:
        if not isinstance(module, nn.Conv2d):
            return f"is a {type(module).__name__}, not a convolution over an image"
        shape = (module.kernel_size, module.padding, module.stride, module.dilation)
        if shape != ((3, 3), (0, 1), (1, 1), (1, 1)):
            return "does not read three rows that end at each row"
        return None

    def transfer_tensor(self, parameter: str, tensor: Tensor) -> Tensor | None:
        if parameter != "weight":
            return None
        wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        above, before, at = wide.unbind(2)
        return torch.stack([before + 2 * above, at - above, torch.zeros_like(at)], 2).to(tensor.dtype)

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        swap_class(module, CentralConvSite, name)

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        h, w = 6, 4
        first, step = torch.randn(2, 1, base.in_channels, 1, w, generator=generator, dtype=torch.float64)
        picture = first + step * torch.arange(h, dtype=torch.float64)[:, None]
        site.context = clip_context(1, 1)
        # The first two rows read zeros that lie above the picture.
        measured = max_abs_diff(site(picture)[:, :, 2:], base(picture)[:, :, 2:])
        # Taps that were computed were rounded once, to the stored dtype, and weigh at most four of the base's.
        total = float(base.weight.detach().abs().flatten(1).sum(1).max() * picture.abs().max())
        terms = base.weight[0].numel()
        allowed = total * (4 * unit + terms * torch.finfo(torch.float64).eps)
        return [
            Invariant(
                "equals the base from the third row on, on a picture that is affine in height",
                measured,
                allowed,
            )
        ]


class CentralConvSite(Site):
    """Frames ((b t) c h w) -> the same size, zeros around them."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, frames: Tensor) -> Tensor:
        if self.context.bidirectional:
            output: Tensor = super().forward(frames)
            return output
        return F.conv2d(frames, self.weight, self.bias, padding=1)

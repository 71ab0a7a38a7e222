"""Measure in float64 what a base would round to float32 on the way.

Some bases cast within their forward (norms, rotations) or keep tables in float32, whatever the dtype of their
weights. What surgery did then drowns in their rounding. Under `exact()` such casts leave float64 as it is; the
claims about the stored precision are measured outside of it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

NARROWER = (torch.float32, torch.float16, torch.bfloat16)
CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16)
FEW = 64  # positions in a small picture
TABLES = (torch.arange, torch.linspace)  # what tables of positions begin with
TYPED = frozenset((*CASTS, *TABLES, Tensor.to))  # others are told a dtype by its name


class exact(TorchFunctionMode):
    """While entered, no float64 tensor is cast to a narrower float, and tables are made in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in TYPED and "dtype" not in kwargs:  # nearly every call
            return func(*args, **kwargs)
        exact = bool(args) and isinstance(args[0], Tensor) and args[0].dtype == torch.float64
        if exact and func in CASTS:
            return args[0]
        if exact and func is Tensor.to:
            args = (args[0], *(_wide(x) for x in args[1:]))
        if exact and func is torch.conv2d:
            return _convolved(*args, **kwargs)
        if exact or func in TABLES:
            kwargs = {name: _wide(x) if name in ("dtype", "tensor") else x for name, x in kwargs.items()}
        return func(*args, **kwargs)


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d`; where pictures (b c h w) are small, as one product for all of them.

    For each of them by itself, torch would read the kernel anew: several times as slow for wide layers.
    """
    kernel = weight.shape[2:]
    few = x.ndim == 4 and len(x) > 1 and x.shape[2] * x.shape[3] < FEW
    if not few or groups != 1 or isinstance(padding, str):
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    h, w = (
        (x.shape[2 + i] + 2 * _of(padding, i) - _of(dilation, i) * (kernel[i] - 1) - 1) // _of(stride, i) + 1
        for i in (0, 1)
    )
    patches = F.unfold(x, tuple(kernel), dilation, padding, stride)
    rows = F.linear(patches.transpose(1, 2), weight.flatten(1), bias)
    return rows.transpose(1, 2).contiguous().unflatten(2, (h, w))  # laid out as conv2d does


def _of(pair: Any, i: int) -> int:
    return pair if isinstance(pair, int) else pair[i]


def _wide(x: Any) -> Any:
    if isinstance(x, Tensor):  # "like that tensor"
        return x.double() if x.dtype in NARROWER else x
    return torch.float64 if isinstance(x, torch.dtype) and x in NARROWER else x

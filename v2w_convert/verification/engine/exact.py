"""Measure in float64 what a base would round to float32.

Some bases cast within their forward (norms, rotations) or keep tables in float32, whatever the dtype of their
weights. That rounding hides what surgery did. Under `exact()` such casts leave float64 tensors as they are; the
claims about the stored precision are measured without it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

NARROWER = (torch.float32, torch.float16, torch.bfloat16)
CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16)
SMALL_IMAGE = 64  # positions
TABLES = (torch.arange, torch.linspace)  # from which tables of positions are made
TYPED = frozenset((*CASTS, *TABLES, Tensor.to))  # others receive a dtype by keyword
PRODUCTS = (torch.conv2d, F.linear)


class exact(TorchFunctionMode):
    """While entered, no float64 tensor is cast to a narrower float, and tables are made in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` without narrowing float64 tensors."""
        kwargs = kwargs or {}
        if func not in TYPED and func not in PRODUCTS and "dtype" not in kwargs:  # nearly every call
            return func(*args, **kwargs)
        exact = bool(args) and isinstance(args[0], Tensor) and args[0].dtype == torch.float64
        if exact and func in CASTS:
            return args[0]
        if exact and func is Tensor.to:
            args = (args[0], *(_wide(x) for x in args[1:]))
        if exact and func is torch.conv2d:
            return _convolved(*args, **kwargs)
        if exact and func is F.linear and args[0].ndim > 2:
            return _multiplied(*args, **kwargs)
        if exact or func in TABLES:
            kwargs = {name: _wide(x) if name in ("dtype", "tensor") else x for name, x in kwargs.items()}
        return func(*args, **kwargs)


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Run `F.linear` as one matrix product: for axes (… c) that lie otherwise in memory torch copies the weight for each of them."""
    rows: Tensor = F.linear(x.flatten(0, -2), weight, bias)
    product: Tensor = rows.unflatten(0, x.shape[:-1])
    return product


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Run `torch.conv2d`; a batch of small images (b c h w) as one matrix product.

    torch would read the kernel again for each image: several times as slow for wide layers.
    """
    kernel = weight.shape[2:]
    small = x.ndim == 4 and len(x) > 1 and x.shape[2] * x.shape[3] < SMALL_IMAGE
    if not small or groups != 1 or isinstance(padding, str):
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    h, w = (
        (x.shape[2 + i] + 2 * _of(padding, i) - _of(dilation, i) * (kernel[i] - 1) - 1) // _of(stride, i) + 1
        for i in (0, 1)
    )
    patches = F.unfold(x, tuple(kernel), dilation, padding, stride)
    rows = _multiplied(patches.transpose(1, 2), weight.flatten(1), bias)
    images: Tensor = rows.transpose(1, 2).contiguous().unflatten(2, (h, w))
    return images  # the memory layout of conv2d


def _of(pair: Any, i: int) -> int:
    return pair if isinstance(pair, int) else int(pair[i])


def _wide(x: Any) -> Any:
    if isinstance(x, Tensor):  # `x.to(other)`
        return x.double() if x.dtype in NARROWER else x
    return torch.float64 if isinstance(x, torch.dtype) and x in NARROWER else x

"""Weights that stay on disk where memory is short: read, cast and dropped again at every use."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.surgery.load import cast_floating

SMALL = 2**16  # numbers: tensors of no more are held in any case
aten = torch.ops.aten
VIEWS = {  # stay on disk as well; autograd would otherwise keep a layer's transposed weights for the backward
    aten.alias.default,
    aten.detach.default,
    aten.permute.default,
    aten.squeeze.dim,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
}


def read_weights(
    tensors: Mapping[str, TensorInfo], dtype: torch.dtype, room: float = float("inf")
) -> dict[str, Tensor]:
    """Tensors by name in `dtype` (those with a fraction), the smaller ones held in memory, at most `room` bytes of them.

    The others are `Unread`, in the order of `tensors` all the same. Raises as `read_tensor` does.
    """
    by_size = sorted(tensors, key=lambda name: _numbers(tensors[name]))
    held = set()
    for name in by_size:
        size = _numbers(tensors[name]) * dtype.itemsize
        if size <= room or _numbers(tensors[name]) <= SMALL or not _fractional(tensors[name]):
            held.add(name)
            room -= size
    # The largest first: what is freed once it is cast has room for the next.
    weights = {
        name: cast_floating(read_tensor(tensors[name]), dtype)
        if name in held
        else Unread.of(tensors[name], dtype)
        for name in reversed(by_size)
    }
    return {name: weights[name] for name in tensors}


def numbers(tensors: Mapping[str, TensorInfo]) -> int:
    """How many all of them hold."""
    return sum(map(_numbers, tensors.values()))


class Unread(Tensor):
    """A tensor of which shape and dtype are in memory. Any function of torch that is given it computes with its values.

    What `copy_` writes into it, `plan.probe.wake` say, is kept in memory, where it differs from what the file says.
    No other change in place is possible.
    """

    read: Callable[[], Tensor]
    written: tuple[Tensor, Tensor] | None  # places in the flattened tensor, and values

    @staticmethod
    def __new__(cls, read: Callable[[], Tensor], like: Tensor) -> "Unread":
        return Tensor._make_wrapper_subclass(cls, like.shape, strides=like.stride(), dtype=like.dtype)

    def __init__(self, read: Callable[[], Tensor], like: Tensor):
        """`read` gives the values; `like`, on the meta device, has the same shape, strides and dtype."""
        self.read, self.written = read, None

    @classmethod
    def of(cls, info: TensorInfo, dtype: torch.dtype) -> "Unread":
        like = torch.empty(info.shape, dtype=dtype, device="meta")
        return cls(lambda: cast_floating(read_tensor(info), dtype), like)

    def values(self) -> Tensor:
        """In memory of their own."""
        values = self.read()
        if self.written is not None:
            places, new = self.written
            values = values.contiguous()
            values.view(-1)[places] = new
        return values

    def write(self, new: Tensor) -> None:
        old, new = self.read(), new.expand(self.shape)
        # Unequal numbers, and a NaN that is no longer one.
        places = ((old != new) | (old.isnan() != new.isnan())).flatten().nonzero().squeeze(1)
        self.written = (places, new.to(old.dtype).flatten()[places])

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        kwargs = kwargs or {}
        first = args[0] if args and isinstance(args[0], cls) else None
        if first is not None and func in VIEWS:
            like = torch.empty_strided(first.shape, first.stride(), dtype=first.dtype, device="meta")
            return cls(lambda: func(first.values(), *args[1:], **kwargs), func(like, *args[1:], **kwargs))
        if first is not None and func is aten.copy_.default:
            first.write(args[1])
            return first
        if first is not None and func._schema.is_mutable:
            raise NotImplementedError(f"{func} changes in place a tensor that is not in memory")
        return func(*tree_map_only(cls, cls.values, args), **tree_map_only(cls, cls.values, kwargs))


def _numbers(info: TensorInfo) -> int:
    count = 1
    for size in info.shape:
        count *= size
    return count


def _fractional(info: TensorInfo) -> bool:
    return "F" in info.dtype  # F32, BF16, F8_E4M3 …

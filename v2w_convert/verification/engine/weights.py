"""Weights that stay on disk where memory is short: read, cast and dropped again at every use."""

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.source import read_tensor

ALWAYS_HELD = 2**16  # numbers: tensors of no more are in memory in any case
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
    tensors: Mapping[str, TensorInfo], dtype: torch.dtype, memory: float = float("inf")
) -> dict[str, Tensor]:
    """Read a model's weights.

    Args:
        tensors: Where they are.
        dtype: To which floating tensors are cast.
        memory: Bytes of them that may be in memory; the smallest tensors are. The others are `DiskTensor`.

    Returns:
        Tensors by name, in the order of `tensors`.

    Raises:
        V2WError: As `read_tensor` does.
    """
    by_size = sorted(tensors, key=lambda name: _numbers(tensors[name]))
    held = set()
    for name in by_size:
        size = _numbers(tensors[name]) * dtype.itemsize
        if size <= memory or _numbers(tensors[name]) <= ALWAYS_HELD or not _is_floating(tensors[name]):
            held.add(name)
            memory -= size
    # The largest first: the memory that is free after its cast has space for the next.
    weights = {
        name: read_tensor(tensors[name], dtype) if name in held else DiskTensor.of(tensors[name], dtype)
        for name in reversed(by_size)
    }
    return {name: weights[name] for name in tensors}


def count_numbers(tensors: Mapping[str, TensorInfo]) -> int:
    """Return how many numbers all of them hold."""
    return sum(map(_numbers, tensors.values()))


class Scratch(threading.local):
    """Memory that weights are cast in, over and over.

    New memory for each would be mapped and zeroed page by page, which takes several times as long as the cast.
    """

    def __init__(self) -> None:
        """Begin with no memory."""
        self.buffers: list[Tensor] = []
        self.used = 0

    def take(self, size: int) -> Tensor:
        """Return uint8 of `size`, which no other call since `used` was 0 has returned."""
        if self.used == len(self.buffers):
            self.buffers.append(torch.empty(0, dtype=torch.uint8))
        if len(self.buffers[self.used]) < size:
            self.buffers[self.used] = torch.empty(0, dtype=torch.uint8)  # freed before there is more
            self.buffers[self.used] = torch.empty(size, dtype=torch.uint8)
        self.used += 1
        return self.buffers[self.used - 1][:size]

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in this memory."""
        place = tensor.untyped_storage().data_ptr()
        return any(buffer.untyped_storage().data_ptr() == place for buffer in self.buffers)

    def clear(self) -> None:
        """Free the memory."""
        self.buffers.clear()


SCRATCH = Scratch()


def _read(info: TensorInfo, dtype: torch.dtype) -> Tensor:
    """The values, cast to `dtype`: in scratch memory, where nothing else is done with them."""
    if info.update is not None:
        return read_tensor(info, dtype)
    stored = read_tensor(info, buffer=SCRATCH.take(info.size))
    if not stored.is_floating_point() or stored.dtype == dtype:
        return stored
    return SCRATCH.take(stored.numel() * dtype.itemsize).view(dtype).view(stored.shape).copy_(stored)


class DiskTensor(Tensor):
    """A tensor of which only shape and dtype are in memory. Any function of torch that receives it reads its values.

    What `copy_` writes into it (`plan.probe.randomize_zero_init` does) is kept in memory, where it differs from the
    file. No other change in place is possible.

    Attributes:
        read: Returns the values in the file, in memory that may be used again.
        written: Positions in the flattened tensor, and the values that were written there.
    """

    read: Callable[[], Tensor]
    written: tuple[Tensor, Tensor] | None

    @staticmethod
    def __new__(cls, read: Callable[[], Tensor], like: Tensor) -> "DiskTensor":
        """Make a tensor of the shape, strides and dtype of `like`."""
        tensor: DiskTensor = Tensor._make_wrapper_subclass(
            cls, like.shape, strides=like.stride(), dtype=like.dtype
        )
        return tensor

    def __init__(self, read: Callable[[], Tensor], like: Tensor):
        """Make a tensor whose values `read` returns; `like`, on the meta device, has its shape, strides and dtype."""
        self.read, self.written = read, None

    @classmethod
    def of(cls, info: TensorInfo, dtype: torch.dtype) -> "DiskTensor":
        """Return the tensor that `info` describes, cast to `dtype`."""
        like = torch.empty(info.shape, dtype=dtype, device="meta")
        return cls(lambda: _read(info, dtype), like)

    def values(self) -> Tensor:
        """Return its values, in memory that may be used again."""
        values = self.read()
        if self.written is not None:
            positions, new = self.written
            values = values.contiguous()
            values.view(-1)[positions] = new
        return values

    def write(self, new: Tensor) -> None:
        """Keep the values of `new` that differ from the file's."""
        old, new = self.read(), new.expand(self.shape)
        # Different numbers, and NaN where there was a number or the other way round.
        positions = ((old != new) | (old.isnan() != new.isnan())).flatten().nonzero().squeeze(1)
        self.written = (positions, new.to(old.dtype).flatten()[positions])

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Run `func` on the values; views stay on disk."""
        kwargs = kwargs or {}
        SCRATCH.used = 0
        first = args[0] if args and isinstance(args[0], cls) else None
        if first is not None and func in VIEWS:
            like = torch.empty_strided(first.shape, first.stride(), dtype=first.dtype, device="meta")
            return cls(lambda: func(first.values(), *args[1:], **kwargs), func(like, *args[1:], **kwargs))
        if first is not None and func is aten.copy_.default:
            first.write(args[1])
            return first
        if first is not None and func._schema.is_mutable:
            raise NotImplementedError(f"{func} changes in place a tensor that is not in memory")
        result = func(*tree_map_only(cls, cls.values, args), **tree_map_only(cls, cls.values, kwargs))
        return tree_map_only(Tensor, lambda x: x.clone() if SCRATCH.holds(x) else x, result)


def _numbers(info: TensorInfo) -> int:
    return math.prod(info.shape)


def _is_floating(info: TensorInfo) -> bool:
    return "F" in info.dtype  # F32, BF16, F8_E4M3 …

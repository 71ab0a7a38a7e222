"""Run diffusers' mapping of a single file on places instead of values.

These functions rename tensors, and split and join them along the first axis. Given objects that record it, they say
which bytes of the file each tensor of diffusers consists of; no value is read, and conversion copies ranges of bytes.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from v2w_convert.checkpoint.headers import DTYPES, TensorInfo

Range = tuple[int, int]


class Unmappable(Exception):
    """The function does something that is no rearrangement of rows."""


class Rows:
    """Stands for a tensor: the rows of a stored one that it consists of."""

    def __init__(self, info: TensorInfo, rows: tuple[Range, ...]):
        self.info, self.rows = info, rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (
            (sum(stop - start for start, stop in self.rows), *self.info.shape[1:]) if self.info.shape else ()
        )

    def size(self, axis: int) -> int:
        return self.shape[axis]

    def __getitem__(self, index: Any) -> "Rows":
        if not isinstance(index, slice) or index.step is not None:
            raise Unmappable(f"an index {index!r:.80}")
        start, stop, _ = index.indices(self.shape[0])
        taken, at = [], 0
        for first, last in self.rows:
            begin, end = max(start - at, 0), min(stop - at, last - first)
            if begin < end:
                taken.append((first + begin, first + end))
            at += last - first
        return Rows(self.info, tuple(taken))

    def split(self, sizes: Any, dim: int = 0) -> tuple["Rows", ...]:
        if dim != 0:
            raise Unmappable("a split of another axis than the first")
        total = self.shape[0]
        if isinstance(sizes, int):
            sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
        if sum(sizes) != total or min(sizes) < 0:
            raise Unmappable(f"a split of {total} rows into {sizes!r:.80}")
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        return tuple(self[start : start + size] for start, size in zip(starts, sizes, strict=True))

    def chunk(self, chunks: int, dim: int = 0) -> tuple["Rows", ...]:
        if not self.shape or self.shape[0] % chunks:
            raise Unmappable(f"{chunks} equal parts of shape {self.shape}")
        return self.split(self.shape[0] // chunks, dim)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What torch calls in place of its own functions."""
        import torch

        kwargs = kwargs or {}
        if func is torch.cat:
            return _joined(*args, **kwargs)
        if func is torch.split:
            return args[0].split(*args[1:], **kwargs)
        if func is torch.chunk:
            return args[0].chunk(*args[1:], **kwargs)
        raise Unmappable(f"torch.{getattr(func, '__name__', '')}")


class _Given(dict[str, Rows]):
    """Still says which names it was given once they are taken out: the mapping of Cosmos asks it then."""

    def __init__(self, rows: dict[str, Rows]):
        super().__init__(rows)
        self.names = frozenset(rows)

    def __contains__(self, name: object) -> bool:
        return name in self.names or super().__contains__(name)


def _joined(parts: list[Rows], dim: int = 0) -> Rows:
    if dim != 0 or len({id(part.info) for part in parts}) != 1:
        raise Unmappable("a join of several tensors")
    return Rows(parts[0].info, tuple(rows for part in parts for rows in part.rows))


def map_tensors(function: str, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """The tensors that a function of `diffusers.loaders.single_file_utils` makes of these.

    Args:
        function: Its name.
        tensors: By the makers' names.

    Returns:
        By diffusers' names; each may consist of several ranges of one stored tensor's bytes.

    Raises:
        ValueError: If a tensor is missing that the function needs, or if it does more than rearrange rows.
    """
    from diffusers.loaders import single_file_utils

    convert = getattr(single_file_utils, function, None)
    if convert is None:
        raise ValueError(f"the installed diffusers has no {function}")
    rows = {name: Rows(info, ((0, info.shape[0] if info.shape else 1),)) for name, info in tensors.items()}
    try:
        mapped = convert(_Given(rows))
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None
    except Unmappable as error:
        raise ValueError(f"{function} does more than rearrange rows: {error}") from None
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(f"{function}: {error}") from None
    return {name: _place(part) for name, part in mapped.items()}


def _place(part: Rows) -> TensorInfo:
    """Where the bytes of these rows lie."""
    info = part.info
    if part.shape == info.shape and len(part.rows) == 1:
        return info
    bits = math.prod(info.shape[1:]) * DTYPES[info.dtype].bits
    if bits % 8:
        raise ValueError(f"rows of {bits} bits")
    ranges = [(info.start + start * bits // 8, info.start + stop * bits // 8) for start, stop in part.rows]
    (start, stop), *rest = ranges or [(info.start, info.start)]
    whole = None if info.crc is None else info.crc_range or (info.start, info.stop)
    return replace(info, shape=part.shape, start=start, stop=stop, rest=tuple(rest), crc_range=whole)

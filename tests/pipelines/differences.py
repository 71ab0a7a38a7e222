"""Differences of values of any make."""

import inspect
from typing import Any

import torch
from torch import Tensor


class NotTheSame(AssertionError):
    """What cannot be said as a difference: an argument that one of the two does not give."""


class Largest:
    """The largest difference of pairs of values, over the largest value."""

    def __init__(self) -> None:
        self.difference, self.value = 0.0, 0.0

    def add(self, mine: Any, theirs: Any) -> None:
        a, b = numbers(mine), numbers(theirs)
        if a.shape != b.shape:
            raise NotTheSame(f"{tuple(a.shape)} in place of {tuple(b.shape)}")
        if a.numel():
            self.difference = max(self.difference, float((a - b).abs().max()))
            self.value = max(self.value, float(b.abs().max()))

    @property
    def relative(self) -> float:
        return self.difference / self.value if self.value else self.difference


def numbers(value: Any) -> Tensor:
    """All numbers of a value, tensors within lists included, flat."""
    if isinstance(value, Tensor):
        return value.double().flatten()
    if isinstance(value, list | tuple):
        return torch.cat([numbers(x) for x in value])
    return torch.tensor([float(value)], dtype=torch.float64)


def is_default(value: Any, default: Any) -> bool:
    """Whether an argument is as the forward's own default."""
    return value is default and default is not inspect.Parameter.empty

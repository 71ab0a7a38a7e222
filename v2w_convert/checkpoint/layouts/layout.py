"""What a layout is, and reading sizes off shapes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from v2w_convert.checkpoint.headers import TensorInfo

Tensors = Mapping[str, TensorInfo]
Config = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """A family's checkpoints as their makers publish them.

    Attributes:
        name: For messages.
        model: Class of diffusers.
        pipeline: Class of diffusers.
        repository: A Hub id of the same model as a diffusers folder.
        marks: Names of tensors by which it is known.
        absent: What no name begins with: those of models that extend this one.
        mapping: The function of `diffusers.loaders.single_file_utils` that maps its tensors.
        config: The model's config, from the tensors' shapes and the makers' own config.json, if there is one.
            Raises ValueError, naming the key, where they do not tell.
        scheduler: scheduler_config.json, as diffusers' conversion script for the family writes it; from the config.
        assumed: What the tensors do not tell and is assumed, in a sentence.
    """

    name: str
    model: str
    pipeline: str
    repository: str
    marks: tuple[str, ...]
    absent: tuple[str, ...]
    mapping: str
    config: Callable[[Tensors, Config], Config]
    scheduler: Callable[[Config], Config]
    assumed: str


def shape(tensors: Tensors, name: str, rank: int) -> tuple[int, ...]:
    """The shape of the tensor `name`, of `rank` sizes above 0.

    Raises:
        ValueError: If it is missing or of another rank.
    """
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    found = tensors[name].shape
    if len(found) != rank or 0 in found:
        raise ValueError(f"{name} is of shape {found}, not {rank} sizes above 0")
    return found


def count(tensors: Tensors, pattern: str) -> int:
    """How many different numbers `pattern`, a regular expression with one group, finds at the start of names."""
    compiled = re.compile(pattern, re.ASCII)
    return len({match[1] for name in tensors if (match := compiled.match(name)) is not None})


def quotient(size: int, by: int, name: str) -> int:
    """`size` / `by`. Raises ValueError unless it is a whole number above 0."""
    if by < 1 or size % by or size < by:
        raise ValueError(f"{name}: {size} is not a multiple of {by}")
    return size // by

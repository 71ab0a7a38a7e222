"""The two models that the claims are about, with their real weights, in float64 unless another dtype is asked for.

Each is opened by itself: together they need not fit in memory. What has no room there stays on disk (`weights`).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from v2w_convert.checkpoint.source import Source, open_source
from v2w_convert.families.build import build_model
from v2w_convert.surgery.load import build_world
from v2w_convert.verification.engine.weights import read_weights
from v2w_convert.world.model import World

ALL = float("inf")


@dataclass
class Models:
    """world  the converted model
    base   the untouched base, if it was given
    """

    world: World
    base: nn.Module | None


def open_models(converted: Path, base: Path | None) -> Models:
    """Both at once, for small ones. Raises V2WError if `converted` cannot be loaded."""
    return Models(open_world(converted), None if base is None else open_base(open_source(base)))


def open_world(converted: Path, dtype: torch.dtype = torch.float64, room: float = ALL) -> World:
    """The converted model, at most `room` bytes of its weights in memory. Raises V2WError if it cannot be loaded."""
    world = build_world(converted, lambda tensors: read_weights(tensors, dtype, room))
    return world.to(dtype).eval().requires_grad_(False)


def open_base(source: Source, room: float = ALL) -> nn.Module:
    """The untouched base in float64, likewise."""
    model = build_model(source.class_name, source.config, unfilled=True)
    model.load_state_dict(read_weights(source.tensors, torch.float64, room), assign=True)
    nn.Module.to(model, torch.float64)  # diffusers' own `to` warns of layers that it would keep in float32
    return model.eval().requires_grad_(False)

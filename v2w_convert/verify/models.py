"""The two models that the claims are about, in float64 and with their real weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from v2w_convert.checkpoint.source import Source, open_source, read_tensor
from v2w_convert.plan.resolve import build
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World


@dataclass
class Models:
    """world  the converted model
    base   the untouched base, if it was given
    """

    world: World
    base: nn.Module | None


def open_models(converted: Path, base: Path | None) -> Models:
    """Raises V2WError if `converted` cannot be loaded."""
    world = load(converted, dtype=torch.float64)
    return Models(world, None if base is None else _load_base(open_source(base)))


def _load_base(source: Source) -> nn.Module:
    model = build(source.class_name, source.config)
    model.load_state_dict({name: read_tensor(info) for name, info in source.tensors.items()}, assign=True)
    nn.Module.to(model, torch.float64)  # diffusers' own `to` warns of layers that it would keep in float32
    return model.eval().requires_grad_(False)

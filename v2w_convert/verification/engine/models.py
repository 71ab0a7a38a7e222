"""The two models that the claims are about, with their real weights, in float64 unless another dtype is asked for.

Each is opened by itself: together they need not fit into memory. Weights that do not fit stay on disk (`weights`).
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import Source
from v2w_convert.errors import V2WError, one_line
from v2w_convert.families.build import build_empty, build_model, require_shapes
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.change import install_operations
from v2w_convert.surgery.load import Converted, build_world, open_converted
from v2w_convert.verification.engine.weights import read_weights
from v2w_convert.world.model import World


@dataclass
class Models:
    """Both models.

    Attributes:
        world: The converted model.
        base: The base, unchanged; None if it was not given.
    """

    world: World
    base: nn.Module | None


def open_models(converted: Path, base: Path | None) -> Models:
    """Open both models at once, if they are small. Raises V2WError if `converted` cannot be loaded."""
    return Models(
        open_world(open_converted(converted)), None if base is None else open_base(open_source(base))
    )


def open_world(
    converted: Converted, dtype: torch.dtype = torch.float64, memory: float = float("inf")
) -> World:
    """Open the converted model, with at most `memory` bytes of its weights in memory.

    Raises:
        V2WError: If it cannot be loaded.
    """
    world = build_world(converted, lambda tensors: read_weights(tensors, dtype, memory))
    return world.to(dtype).eval().requires_grad_(False)


def open_base(source: Source, memory: float = float("inf")) -> nn.Module:
    """Open the base in float64, with at most `memory` bytes of its weights in memory.

    Raises:
        V2WError: Its weights are not those that its config describes.
    """
    try:
        shapes = {name: info.shape for name, info in source.tensors.items()}
        require_shapes(build_empty(source.class_name, source.config), shapes)
        model = build_model(source.class_name, source.config, unfilled=True)
    except Exception as error:  # whatever a class makes of a config it was not given by its authors
        raise V2WError(f"read the base {source.folder}", one_line(error)) from None
    model.load_state_dict(read_weights(source.tensors, torch.float64, memory), assign=True)
    nn.Module.to(model, torch.float64)  # diffusers' own `to` warns about layers that it would keep in float32
    return model.eval().requires_grad_(False)


def fold_base(base: nn.Module, resolved: ResolvedPlan, action_dim: int) -> World:
    """Install the plan's operations on the base's own weights, in float64: the folded model.

    `base` does not change; its weights are shared, not copied.
    """
    shared = {id(x): x for x in (*base.parameters(), *base.buffers())}
    folded = deepcopy(base, shared)
    install_operations(resolved, folded, action_dim)
    return World(folded, resolved, action_dim).to(torch.float64)

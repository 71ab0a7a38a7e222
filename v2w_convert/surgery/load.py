"""A converted folder -> a world model, ready to run."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.errors import V2WError, error_context
from v2w_convert.families.build import build_model
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import parse_plan
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.surgery.change import install_operations
from v2w_convert.surgery.conditions import stored_conditions
from v2w_convert.surgery.manifest import CONDITIONS, Manifest, read_manifest
from v2w_convert.world.model import World


def open_converted(folder: Path) -> tuple[Manifest, Source, ResolvedPlan]:
    """A converted folder's manifest, tensors and plan. No weights are read.

    Raises:
        V2WError: It is no converted folder.
    """
    manifest = read_manifest(folder)
    source = open_source(folder)
    plan: Plan = parse_plan(manifest.plan, f"read the plan in {folder}")
    with error_context(folder):
        return manifest, source, resolve(plan, source.config)


def load(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> World:
    """The world model in `folder`, in eval mode.

    Args:
        folder: A converted folder, or the result of finetuning one.
        device: Where to put it.
        dtype: Of its floating tensors; None: as stored.

    Raises:
        V2WError: It is no converted folder, or its tensors are not those that its plan makes.
    """

    def read(tensors: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
        return {name: cast_floating(read_tensor(info), dtype) for name, info in tensors.items()}

    world = build_world(Path(folder), read)
    return world.to(device=device, dtype=dtype).eval().requires_grad_(False)


def build_world(folder: Path, read: Callable[[Mapping[str, TensorInfo]], dict[str, Tensor]]) -> World:
    """The world model in `folder` with weights from `read`.

    Args:
        folder: As in `load`.
        read: Tensors in files -> their values, which become the model's own: no weight is held twice.

    Raises:
        V2WError: As `load` does.
    """
    manifest, source, resolved = open_converted(folder)
    base = build_model(resolved.plan.base, resolved.config, unfilled=True)
    install_operations(resolved, base, manifest.action_dim)
    expected = {name: tensor.shape for name, tensor in base.state_dict().items()}
    found = source.tensors
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} is {tuple(found[name].shape)}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != tuple(shape)
    ]
    if faults:
        raise V2WError(f"load {folder}", sorted(faults)[:5], "convert it again")
    base.load_state_dict(read(found), assign=True)
    conditions = stored_conditions(resolved, folder / CONDITIONS)
    return World(base, resolved, manifest.action_dim, conditions)


def cast_floating(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """As `nn.Module.to`: floating tensors are cast, others are not."""
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor

"""A converted folder -> a world model, ready to run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

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
from v2w_convert.surgery.change import added_tensors, install_operations
from v2w_convert.surgery.conditions import stored_conditions
from v2w_convert.surgery.manifest import CONDITIONS, MANIFEST, Manifest, read_manifest
from v2w_convert.world.experts import AnyWorld, ExpertsWorld
from v2w_convert.world.finite import is_finite
from v2w_convert.world.model import World

Read = Callable[[Mapping[str, TensorInfo]], dict[str, Tensor]]
"""Tensors in files -> their values, which become the model's own: no weight is held twice."""


class Converted(NamedTuple):
    """A converted folder's record, files and plan. No weights have been read.

    Attributes:
        manifest: The record.
        source: The files.
        resolved: The plan; where there are two denoisers, the same for both.
    """

    manifest: Manifest
    source: Source
    resolved: ResolvedPlan

    @property
    def experts(self) -> "dict[str, Converted]":
        """For each denoiser, by its name in `Source.experts`, this as if it were the only one."""
        manifests = self.manifest.experts
        return {
            name: Converted(manifests[name], source, self.resolved)
            for name, source in self.source.experts.items()
        }


def open_converted(folder: Path) -> Converted:
    """A converted folder's manifest, tensors and plan. No weights are read.

    Raises:
        V2WError: It is no converted folder.
    """
    manifest = read_manifest(folder)
    source = open_source(folder)
    if manifest.boundary != source.boundary:
        found = f"{MANIFEST} says boundary {manifest.boundary}, the files say {source.boundary}"
        raise V2WError(f"read the converted model {folder}", found, "convert it again")
    plan: Plan = parse_plan(manifest.plan, f"read the plan in {folder}")
    with error_context(folder):
        return Converted(manifest, source, resolve(plan, source.config))


def load(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> AnyWorld:
    """The world model in `folder`, in eval mode.

    Args:
        folder: A converted folder, or the result of finetuning one.
        device: Where to put it.
        dtype: Of its floating tensors; None: as stored.

    Raises:
        V2WError: It is no converted folder, or its tensors are not those that its plan makes, or not finite.
    """
    converted = open_converted(Path(folder))
    return load_experts(converted.experts, converted.source.boundary, device=device, dtype=dtype)


def load_experts(
    experts: Mapping[str, Converted],
    boundary: float | None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    matrices: torch.dtype | None = None,
) -> AnyWorld:
    """One denoiser, or two with the `boundary` of their ranges, as a world model.

    Args:
        experts: The denoisers.
        boundary: Of their ranges; None: there is one.
        device: As of `load`.
        dtype: As of `load`.
        matrices: Dtype of floating weights of two axes or more; None: as `dtype`. Then buffers keep theirs, too.

    Raises:
        V2WError: As `load`.
    """

    def read(tensors: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
        return {
            name: read_finite(name, info, matrices if matrices and len(info.shape) > 1 else dtype)
            for name, info in tensors.items()
        }

    whole = dtype if matrices is None else None
    worlds = {
        name: build_world(expert, read).to(device=device, dtype=whole).eval().requires_grad_(False)
        for name, expert in experts.items()
    }
    if boundary is None or len(worlds) == 1:
        return next(iter(worlds.values()))
    return ExpertsWorld(worlds["high"], worlds["low"], boundary).eval()


def build_world(converted: Converted, read: Read) -> World:
    """One denoiser as a world model, with weights from `read`.

    Raises:
        V2WError: Its tensors are not those that its plan makes.
    """
    manifest, source, resolved = converted
    # By the base on the meta device: nothing is allocated before the sizes are known to be those of the files.
    expected = {name: tuple(tensor.shape) for name, tensor in resolved.base.state_dict().items()}
    expected |= added_tensors(resolved, resolved.base, manifest.action_dim)
    found = source.tensors
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} is {found[name].shape}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    numbers = {
        name for name, _ in resolved.base.named_parameters()
    } | expected.keys() - resolved.base.state_dict().keys()
    faults += [
        f"{name} is of type {found[name].dtype}"
        for name in numbers & found.keys()
        if not found[name].dtype.startswith(("F", "BF"))
    ]
    if faults:
        raise V2WError(f"load {source.folder / source.component}", sorted(faults)[:5], "convert it again")
    base = build_model(resolved.plan.base, resolved.config, unfilled=True)
    install_operations(resolved, base, manifest.action_dim)
    base.load_state_dict(read(found), assign=True)
    conditions = stored_conditions(resolved, source.folder / CONDITIONS)
    return World(base, resolved, manifest.action_dim, conditions)


def read_finite(name: str, info: TensorInfo, dtype: torch.dtype | None) -> Tensor:
    """A tensor's value in `dtype`; V2WError if it holds a number that is not finite."""
    value = read_tensor(info, dtype)
    if not is_finite(value):
        found = f"{name} has numbers that are not finite in {str(value.dtype).removeprefix('torch.')}"
        raise V2WError(f"load {info.file}", found, "weights without NaN or infinity, --dtype float32")
    return value

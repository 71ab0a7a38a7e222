"""A converted folder -> a world model, ready to run."""

from pathlib import Path

import torch

from v2w_convert.checkpoint.source import Source, open_source, read_tensor
from v2w_convert.errors import V2WError, about
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.read import parse_plan
from v2w_convert.plan.resolve import Resolved, build, resolve
from v2w_convert.surgery.change import install
from v2w_convert.surgery.conditions import stored_conditions
from v2w_convert.surgery.manifest import CONDITIONS, Manifest, read_manifest
from v2w_convert.world.model import World


def open_converted(folder: Path) -> tuple[Manifest, Source, Resolved]:
    """What a converted folder says of itself; no weights are read."""
    manifest = read_manifest(folder)
    source = open_source(folder)
    plan: Plan = parse_plan(manifest.plan, f"read the plan in {folder}")
    with about(folder):
        return manifest, source, resolve(plan, source.config)


def load(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> World:
    """The world model in `folder`, in eval mode, with its stored dtype unless `dtype` is given.

    Raises V2WError if the folder is no converted model or its tensors are not the ones that its plan makes.
    """
    folder = Path(folder)
    manifest, source, resolved = open_converted(folder)
    base = build(resolved.plan.base, resolved.config)
    install(resolved, base, manifest.action_dim)
    state = {name: read_tensor(info) for name, info in source.tensors.items()}
    expected = {name: tensor.shape for name, tensor in base.state_dict().items()}
    faults = [f"{name} is missing" for name in expected.keys() - state.keys()]
    faults += [f"{name} is unknown" for name in state.keys() - expected.keys()]
    faults += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    if faults:
        raise V2WError(f"load {folder}", sorted(faults)[:5], "convert it again")
    base.load_state_dict(state, assign=True)
    conditions = stored_conditions(resolved, folder / CONDITIONS)
    world = World(base, resolved, manifest.action_dim, conditions)
    return world.to(device=device, dtype=dtype).eval().requires_grad_(False)

"""Surgery on tensors, by name, and on the live model: two views of one change."""

import hashlib
from typing import Literal

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.operations import Operation
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.world.finite import is_finite

TensorStatus = Literal["kept", "transferred", "added"]


def operation_of_tensor(resolved: ResolvedPlan, tensor: str) -> tuple[Operation, str] | None:
    """The operation at the site that a base tensor belongs to, and the tensor's name within that site."""
    site, _, parameter = tensor.rpartition(".")
    operation = resolved.sites.get(site)
    return (operation, parameter) if operation is not None else None


def transfer_tensor(resolved: ResolvedPlan, name: str, tensor: Tensor) -> Tensor | None:
    """A base tensor after surgery.

    Args:
        resolved: The plan.
        name: The tensor's name in the base.
        tensor: Its value.

    Returns:
        The new value, in its dtype; None: it is kept bit for bit.

    Raises:
        V2WError: The operation computes with it, and it holds a number that is not finite.
    """
    found = operation_of_tensor(resolved, name)
    value = found[0].transfer_tensor(found[1], tensor) if found else None
    if value is not None and not tensor.is_meta and not is_finite(tensor):
        raise V2WError(f"transfer {name}", "it holds a number that is not finite", "another base")
    return value


def added_tensors(resolved: ResolvedPlan, model: nn.Module, action_dim: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that surgery adds. `model` is the base, on any device, also meta."""
    return {
        f"{site}.{parameter}": shape
        for site, operation in resolved.sites.items()
        for parameter, shape in operation.new_tensors(
            model.get_submodule(site), action_dim, resolved.frames_per_block
        ).items()
    }


def initial_tensor(resolved: ResolvedPlan, name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The first value of an added tensor, float32: sampled by (seed, name) alone, so order does not matter."""
    site = max((s for s in resolved.sites if name.startswith(f"{s}.")), key=len)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return resolved.sites[site].initial_value(name.removeprefix(f"{site}."), shape, generator)


def install_operations(resolved: ResolvedPlan, model: nn.Module, action_dim: int) -> None:
    """Give every site of the live base its new behaviour, in place. Values are not touched."""
    for site, operation in resolved.sites.items():
        operation.install(model.get_submodule(site), site, action_dim, model, resolved.frames_per_block)


def apply_surgery(resolved: ResolvedPlan, model: nn.Module, action_dim: int, seed: int) -> None:
    """Change a live base, in place: behaviour and values.

    Equals `convert` followed by `load`, bit for bit at the stored dtype.

    Args:
        resolved: The plan.
        model: The base.
        action_dim: Numbers in an action.
        seed: Of added tensors.
    """
    shapes = added_tensors(resolved, model, action_dim)
    dtype = next(model.parameters()).dtype
    install_operations(resolved, model, action_dim)
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if name in shapes:
                tensor.copy_(initial_tensor(resolved, name, shapes[name], seed).to(dtype))
            elif (value := transfer_tensor(resolved, name, tensor)) is not None:
                tensor.copy_(value)
    for name in shapes:  # added modules come in float32
        site, _, _ = name.partition(".v2w_")
        model.get_submodule(site).to(dtype)

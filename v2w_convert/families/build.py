"""Build a base model from its config, on the CPU or without weights. Sizes that come from a file are bounded."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from v2w_convert.checkpoint.headers import MAX_TENSORS
from v2w_convert.families import model_class

MAX_NUMBER = 10_000_000  # in a config
MAX_TABLE_BYTES = 512 * 2**20  # of all buffers: the positions of CogVideoX 5b I2V take 437 MB, in float64


def build_model(class_name: str, config: dict[str, Any], *, unfilled: bool = False) -> nn.Module:
    """A base, built from its config.

    Args:
        class_name: Of one of ours, or of a model of diffusers.
        config: As in config.json.
        unfilled: Whether parameters stay on the meta device, to be assigned. Buffers hold their values either way,
            since some are stored in no checkpoint.

    Raises:
        ValueError: There is no model of that name, a number is too large or none, or tables would be; and whatever the
            class raises for a bad config.
    """
    clean = {key: value for key, value in config.items() if key != "v2w"}
    if huge := [key for key, value in clean.items() if _huge(value)]:
        raise ValueError(f"{', '.join(huge)}: over {MAX_NUMBER}, which is no size of a model")
    with limited(), _unfilled() if unfilled else nullcontext():
        model: nn.Module = model_class(class_name).from_config(clean)
    return model


def build_empty(class_name: str, config: dict[str, Any]) -> Any:
    """The same on the meta device: names and shapes, for which no memory is needed. Raises as `build_model`."""
    with torch.device("meta"):
        return build_model(class_name, config)


def require_shapes(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the tensors of files are a model's parameters; more of them are ignored, as diffusers does.

    Args:
        model: On any device, also meta.
        shapes: Of the tensors, by name.

    Raises:
        ValueError: A parameter is missing, or of another shape.
    """
    faults = [
        f"{name} is {shapes.get(name, 'missing')}, its config.json says {tuple(value.shape)}"
        for name, value in model.named_parameters()
        if shapes.get(name) != tuple(value.shape)
    ]
    if faults:
        raise ValueError("; ".join(faults[:3] + ([f"and {len(faults) - 3} more"] if len(faults) > 3 else [])))


def _huge(value: object) -> bool:
    """Whether a number in it is too large: a list of so many layers fills the memory before parameters are counted."""
    if isinstance(value, list | tuple):
        return any(map(_huge, value))
    return isinstance(value, int | float) and not abs(value) <= MAX_NUMBER


@contextmanager
def _unfilled() -> Iterator[None]:
    """Within it, parameters are put on the meta device as soon as a module has them."""

    def without_values(module: nn.Module, name: str, value: Any) -> nn.Parameter | None:
        filled = isinstance(value, nn.Parameter) and not value.is_meta
        return nn.Parameter(value.detach().to("meta"), value.requires_grad) if filled else None

    hook = register_module_parameter_registration_hook(without_values)  # type: ignore[arg-type]
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def limited() -> Iterator[None]:
    """Within it, building a model with more parameters or tables than a checkpoint may hold raises ValueError."""
    count = tables = 0

    def counted(module: nn.Module, name: str, value: Any) -> None:
        nonlocal count
        count += 1
        if count > 2 * MAX_TENSORS:
            raise ValueError(f"it would have more than {MAX_TENSORS} parameters")

    def measured(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal tables
        tables += 0 if value is None else math.prod(value.shape) * value.element_size()
        if value is not None and tables > MAX_TABLE_BYTES:
            raise ValueError(f"its tables, such as {name} of {tuple(value.shape)}, would take {tables} bytes")

    hooks = [
        register_module_buffer_registration_hook(measured),
        register_module_parameter_registration_hook(counted),
        register_module_module_registration_hook(counted),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def complete_config(model: Any) -> dict[str, Any]:
    """The model's config with every default that its file leaves out."""
    return {key: value for key, value in dict(model.config).items() if key != "_use_default_values"}

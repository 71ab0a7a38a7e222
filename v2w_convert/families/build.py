"""Build a base model from its config, on the CPU or without weights. Sizes that come from a file are bounded."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from v2w_convert.checkpoint.headers import MAX_TENSORS
from v2w_convert.families import model_class

MAX_NUMBER = 10_000_000  # in a config


def build_model(class_name: str, config: dict[str, Any], *, unfilled: bool = False) -> nn.Module:
    """A base, built from its config.

    Args:
        class_name: Of one of ours, or of a model of diffusers.
        config: As in config.json.
        unfilled: Whether parameters stay on the meta device, to be assigned. Buffers hold their values either way,
            since some are stored in no checkpoint.

    Raises:
        ValueError: There is no model of that name, or a number is too large; and whatever the class raises for a bad
            config.
    """
    clean = {key: value for key, value in config.items() if key != "v2w"}
    if huge := [key for key, value in clean.items() if _huge(value)]:
        raise ValueError(f"{', '.join(huge)}: over {MAX_NUMBER}, which is no size of a model")
    with _limited(), _unfilled() if unfilled else nullcontext():
        model: nn.Module = model_class(class_name).from_config(clean)
    return model


def _huge(value: object) -> bool:
    """Whether a number in it is too large: a list of so many layers fills the memory before parameters are counted."""
    if isinstance(value, list | tuple):
        return any(map(_huge, value))
    return isinstance(value, int | float) and abs(value) > MAX_NUMBER


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
def _limited() -> Iterator[None]:
    """Within it, building a model with more parameters than a checkpoint may hold raises ValueError."""
    count = 0

    def counted(module: nn.Module, name: str, value: Any) -> None:
        nonlocal count
        count += 1
        if count > 2 * MAX_TENSORS:
            raise ValueError(f"it would have more than {MAX_TENSORS} parameters")

    hooks = [
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

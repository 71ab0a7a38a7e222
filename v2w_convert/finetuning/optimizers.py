"""The optimizers that can be chosen, and the form of their states."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.finetuning.memory_settings import MemorySettings, OptimizerName
from v2w_convert.finetuning.processes import set_values

State = dict[str, Any]
"""What an optimizer keeps for one tensor: tensors, and whole numbers such as a count of steps."""


def make_optimizer(
    name: OptimizerName, tensors: Iterable[Tensor], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer called `name` for `tensors`.

    Raises:
        V2WError: The package that it needs is not installed.
    """
    given = [{"params": list(tensors)}]
    match name:
        case "adamw":
            return torch.optim.AdamW(given, lr=lr, weight_decay=weight_decay, fused=True)
        case "adafactor":  # torch's own; its foreach form would hold temporary copies of everything
            return torch.optim.Adafactor(given, lr=lr, weight_decay=weight_decay, foreach=False)
        case "adamw-8bit":
            optimizer: torch.optim.Optimizer = _bitsandbytes().AdamW8bit(
                given, lr=lr, weight_decay=weight_decay
            )
            return optimizer


def require_optimizer(settings: MemorySettings) -> None:
    """Check that the optimizer's package is there.

    Raises:
        V2WError: It is not.
    """
    if settings.optimizer == "adamw-8bit":
        _bitsandbytes()


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except Exception as error:  # it also fails where it finds no library for the card
        raise V2WError(
            "use the optimizer adamw-8bit",
            f"bitsandbytes cannot be used ({error})",
            "pip install 'v2w-convert[adamw-8bit]', or --optimizer adafactor",
        ) from None
    return bitsandbytes.optim


def state_tensors(optimizer: torch.optim.Optimizer, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The states of named tensors, as `KEY/NAME`. Whole numbers become int64 tensors; what several share is copied."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, master in masters.items():
        for key, value in optimizer.state.get(master, {}).items():
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            found[f"{key}/{name}"] = tensor.clone() if tensor.data_ptr() in seen else tensor
            seen.add(tensor.data_ptr())
    return found


def lay_out_states(optimizer: torch.optim.Optimizer, tensors: Iterable[Tensor]) -> None:
    """Give each tensor a state as the optimizer's first step makes it, without changing the tensor.

    By a step with a learning rate and a gradient of zero, one tensor at a time: so no optimizer's layout is repeated here.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.zero_grad()
    for tensor in tensors:
        if not optimizer.state.get(tensor):
            tensor.grad = torch.zeros_like(tensor)
            optimizer.step()
            tensor.grad = None
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def fill_states(
    optimizer: torch.optim.Optimizer, masters: Mapping[str, Tensor], read: Callable[[str], Tensor | None]
) -> None:
    """Set the states of named tensors, which `lay_out_states` has made.

    Args:
        optimizer: The optimizer.
        masters: The tensors.
        read: Returns what `state_tensors` returned for `KEY/NAME`; None: the tensor had no state.
    """
    for name, master in masters.items():
        state = optimizer.state[master]
        values = {key: read(f"{key}/{name}") for key in state}
        if any(value is None for value in values.values()):
            del optimizer.state[master]
            continue
        for key, value in values.items():
            assert value is not None
            if isinstance(state[key], Tensor):
                set_values(state[key], value)
            else:
                state[key] = type(state[key])(value.item())

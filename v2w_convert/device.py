"""Which device and which number format to compute with, from the names that settings and flags take."""

from typing import TYPE_CHECKING, Any

from v2w_convert.errors import V2WError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def resolve_device(name: str) -> "torch.device":
    """Return the device called `name`.

    Args:
        name: "auto" (CUDA if there is a card, else Apple's MPS, else the CPU), or a name that torch knows:
            "cpu", "cuda", "cuda:1", "mps", "xpu".

    Raises:
        V2WError: torch does not know the name, or this machine has no such device.
    """
    import torch

    if name == "auto":
        available = [kind for kind in ("cuda", "mps") if _available(kind)]
        return torch.device(available[0] if available else "cpu")
    asked = f"compute on the device {name!r}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or str(device) != name:  # torch reads cpu:255 as cpu
        raise V2WError(asked, "torch knows no such device", "auto, cpu, cuda, cuda:1 or mps")
    if not _available(device.type):
        raise V2WError(asked, f"this machine has no {device.type} that torch can use", "auto or cpu")
    if device.index is not None and device.index >= _count(device.type):
        count = _count(device.type)
        found = f"this machine has {count} {device.type} device{'' if count == 1 else 's'}"
        raise V2WError(asked, found, f"{device.type}:0 to {device.type}:{count - 1}")
    return device


def resolve_dtype(name: str, device: "torch.device | None" = None) -> "torch.dtype":
    """Return torch's floating-point type called `name`, one of `DTYPES`.

    Args:
        name: "auto": bfloat16 on a CUDA `device` that computes in it, else float32.
        device: Where it is computed.

    Raises:
        V2WError: `name` is not one of them.
    """
    import torch

    if name == "auto":
        cuda = device is not None and device.type == "cuda"
        name = "bfloat16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if name not in DTYPES:
        raise V2WError(f"compute in {name!r}", "not a number format that can be chosen", ", ".join(DTYPES))
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _available(kind: str) -> bool:
    """Whether torch can compute on a device of this kind."""
    import torch

    if kind == "cpu":
        return True
    if kind == "mps":
        return torch.backends.mps.is_available()
    module = getattr(torch, kind, None)  # cuda, xpu, …
    return bool(module is not None and hasattr(module, "is_available") and module.is_available())


def _count(kind: str) -> int:
    """How many devices of this kind there are."""
    import torch

    module: Any = getattr(torch, kind, None)
    return int(module.device_count()) if hasattr(module, "device_count") else 1

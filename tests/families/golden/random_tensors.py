"""Random weights and inputs that follow from a name and a seed, so that they need not be stored."""

import hashlib

import torch
from torch import Tensor


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """float32, uniform in -1 … 1; the same on every machine."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
    return 2 * torch.rand(shape, generator=generator) - 1


def weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Weights of two or more axes have standard deviation 0.4 / √inputs; norms' lie around 1; all else, zeros too, around 0.

    So small that what norms add to the variance shows, and so large that attention prefers something.
    """
    found = {}
    for name, shape in shapes.items():
        numbers = random_tensor(name, shape, seed)
        if len(shape) >= 2:
            found[name] = 0.4 * numbers * (3 / numbers[0].numel()) ** 0.5
        else:
            found[name] = 0.1 * numbers + (1 if name.endswith(".weight") else 0)
    return found

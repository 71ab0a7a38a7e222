"""The exponential moving average of what is trained: what is saved as the model."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """Averaged tensors by name, float32.

    The decay begins at 0 and rises with the steps, (1 + n) / (10 + n), up to `decay`, as in diffusers' `EMAModel`.

    Attributes:
        values: The averages.
        decay: The final decay.
        steps: Steps taken so far.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float, device: str | torch.device | None = None):
        """Begin with copies of `tensors`, on `device` (None: where they are)."""
        self.values = {name: tensor.detach().to(device, copy=True) for name, tensor in tensors.items()}
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def step(self, tensors: Mapping[str, Tensor]) -> None:
        """Take `tensors`, of the same names, into the average."""
        before = self.steps
        self.steps += 1
        decay = min(self.decay, (1 + before) / (10 + before)) if before else 0.0
        values = list(self.values.values())
        latest = [tensors[name].detach() for name in self.values]
        if values and values[0].device == latest[0].device:
            torch._foreach_lerp_(values, latest, 1 - decay)
            return
        for value, tensor in zip(values, latest, strict=True):  # one copy at a time crosses over
            value.lerp_(tensor.to(value.device), 1 - decay)

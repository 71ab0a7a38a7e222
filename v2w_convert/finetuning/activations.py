"""How much memory a training step takes beside weights and optimizer: counted in a step on tensors without values.

The step runs on torch's fake tensors, which have shapes, dtypes and a device, and no memory. Every storage is counted from
when an operation makes it until nothing holds it: so what a layer keeps for the backward, what gradient checkpointing
spares, what autocast copies and which kernel of attention is chosen need no formula.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512  # bytes: allocators give whole blocks


class StorageCount(TorchDispatchMode):
    """Counts the bytes of storages that are made within it.

    Attributes:
        live: Bytes that are held now.
        peak: The most that were held at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def ignore(self, tensor: Tensor) -> None:
        """Do not count a tensor that was there before."""
        self._known.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for value in tree_leaves(output):
            if isinstance(value, Tensor):
                self._count(value)
        return output

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.live -= size


def count_step(model: nn.Module, step: Callable[[], Tensor], device: torch.device) -> int:
    """Count the bytes that a step holds at its peak, gradients among them and the model's own tensors not.

    Args:
        model: On any device, also meta. Its tensors have no values afterwards.
        step: Returns the loss; what it makes has no values. Its backward is run.
        device: Where the tensors are said to be.

    Raises:
        Exception: Whatever torch raises where the model's program depends on values.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                    module._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
        count = StorageCount()
        for tensor in (*model.parameters(), *model.buffers()):
            count.ignore(tensor)
        with count:
            step().backward()
        return count.peak

"""When a model runs in one of the dtypes or modes of rollouts and training: for faults that show only there."""

from typing import Any

import torch

from tests.mutations.faults.rarely import When


def computing_in(dtype: torch.dtype, *, streaming: bool = False, training: bool = False) -> When:
    """In this dtype; in streams only, or in training mode with gradients only."""

    def when(site: Any, args: tuple[Any, ...]) -> bool:
        given = {x.dtype for x in args if isinstance(x, torch.Tensor) and x.is_floating_point()}
        return (
            dtype in given
            and not torch.is_autocast_enabled("cpu")
            and (not streaming or site.context.past is not None)
            and (not training or (site.training and torch.is_grad_enabled()))
        )

    return when


def under_autocast(dtype: torch.dtype, *, training: bool = True) -> When:
    """Under autocast, in training mode or in evaluation mode (validation) only."""
    return lambda site, args: (
        torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == dtype
        and site.training is training
    )


def _in_checkpoint() -> bool:
    """Whether a checkpoint packs what is saved for the backward."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"


def in_training(*, gradients: bool) -> When:
    """In training mode without gradient checkpointing, with or without gradients."""
    return lambda site, args: site.training and torch.is_grad_enabled() is gradients and not _in_checkpoint()

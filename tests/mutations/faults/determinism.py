"""Outputs that differ for the same input."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.mutations.faults.tools import SLIGHT, change_output, override_methods
from v2w_convert.sites import ForwardContext, Site


def adds_noise(module: nn.Module) -> None:
    """Return another output each time."""
    change_output(module, lambda self, x, now: x + 1e-6 * torch.randn_like(x))


def leaks_previous_call(module: nn.Module) -> None:
    """Add a little of the previous call's input, whatever it was."""
    before: list[Tensor] = []

    def leak(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        left = before.pop().mean() if before else x.new_zeros(())
        before.append(x.detach().clone())
        return x + SLIGHT * left.to(x.dtype)

    change_output(module, leak)


def decays_with_calls(module: nn.Module) -> None:
    """Return a little less at every call."""
    calls = [0]

    def less(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        calls[0] += 1
        return x * (1 - 1e-6 * calls[0])

    change_output(module, less)


def differs_in_training(site: Site) -> None:
    """Return another output in training mode."""
    change_output(site, lambda self, x, now: x * (1 + 1e-3) if self.training else x)


def loses_context_after_call(site: Site) -> None:
    """Have the right context for one call only: the recomputation in the backward gets another."""
    forward = type(site).forward

    def once(self: Site, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        if self.training:
            self.context = replace(self.context, b=self.context.b * self.context.t, t=1)
        return output

    override_methods(site, forward=once)


def alternates(module: nn.Module) -> None:
    """Return more at every other call, by more than rounding."""
    calls = [0]

    def more(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        calls[0] += 1
        return x * (1 + calls[0] % 2 / 8)

    change_output(module, more)

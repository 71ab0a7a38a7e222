"""What is not the same twice."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.mutations.faults.means import SLIGHT, become, change_output
from v2w_convert.sites import ForwardContext, Site


def flickers(module: nn.Module) -> None:
    """Give another output each time."""
    change_output(module, lambda self, x, now: x + 1e-6 * torch.randn_like(x))


def remembers_inputs(module: nn.Module) -> None:
    """Let a little of what was given at the last call, whatever that was, into this one."""
    before: list[Tensor] = []

    def leak(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        left = before.pop().mean() if before else x.new_zeros(())
        before.append(x.detach().clone())
        return x + SLIGHT * left.to(x.dtype)

    change_output(module, leak)


def wears_out(module: nn.Module) -> None:
    """Give a little less at every call."""
    calls = [0]

    def less(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        calls[0] += 1
        return x * (1 - 1e-6 * calls[0])

    change_output(module, less)


def differs_in_training(site: Site) -> None:
    """Give another output where gradients are taken in training mode."""
    change_output(site, lambda self, x, now: x * (1 + 1e-3) if self.training else x)


def loses_its_pass(site: Site) -> None:
    """Be told of the pass for one call only: the backward's second computation gets another."""
    forward = type(site).forward

    def once(self: Site, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        if self.training:
            self.context = replace(self.context, b=self.context.b * self.context.t, t=1)
        return output

    become(site, forward=once)


def alternates(module: nn.Module) -> None:
    """Give more at every other call, by as much as no rounding hides."""
    calls = [0]

    def more(self: nn.Module, x: Tensor, now: ForwardContext) -> Tensor:
        calls[0] += 1
        return x * (1 + calls[0] % 2 / 8)

    change_output(module, more)

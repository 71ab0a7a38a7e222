"""What a convolution does."""

from typing import Any

from torch import nn

from tests.mutations.faults.means import become


def holds_or_not(site: Any) -> None:
    """A convolution with something else before the first frame."""
    site.hold = not site.hold


def reads_late(site: Any) -> None:
    """A convolution that reads frame t-1 and before."""
    forward = type(site).forward

    def late(self: Any, *args: Any, **kwargs: Any) -> Any:
        own = self.weight
        self.weight = nn.Parameter(own.roll(-1, 2), requires_grad=False)
        try:
            return forward(self, *args, **kwargs)
        finally:
            self.weight = own

    become(site, forward=late)

"""Faults of convolutions."""

from typing import Any

from torch import nn

from tests.mutations.faults.tools import override_methods


def other_padding(site: Any) -> None:
    """Toggle the padding before the first frame."""
    site.hold = not site.hold


def convolves_one_frame_late(site: Any) -> None:
    """Convolve frame t-1 and before."""
    forward = type(site).forward

    def late(self: Any, *args: Any, **kwargs: Any) -> Any:
        own = self.weight
        self.weight = nn.Parameter(own.roll(-1, 2), requires_grad=False)
        try:
            return forward(self, *args, **kwargs)
        finally:
            self.weight = own

    override_methods(site, forward=late)

"""Positions of frames."""

from typing import Any

from tests.mutations.faults.tools import change_context, override_methods, replace_rotation
from v2w_convert.sites import Site


def position_one_too_large(site: Site) -> None:
    """Count frames from one."""
    block_indices = type(site).block_indices
    override_methods(site, block_indices=lambda self: block_indices(self) + 1)


def position_one_too_large_in_streams(site: Site) -> None:
    """Count frames from one, but only when continuing a stream."""
    block_indices = type(site).block_indices
    override_methods(site, block_indices=lambda self: block_indices(self) + (self.context.past is not None))


def position_constant(site: Site) -> None:
    """Count every frame as the first."""
    block_indices = type(site).block_indices
    override_methods(site, block_indices=lambda self: 0 * block_indices(self))


def ignores_position_offset(site: Site) -> None:
    """Ignore the position at which finetuning lets a clip start."""
    change_context(site, lambda now: {"offset": None})


def wrong_position_offset(site: Site) -> None:
    """Let a clip start one frame after the position that finetuning chose."""
    change_context(site, lambda now: {"offset": None if now.offset is None else now.offset + 1})


def wrong_period(site: Any) -> None:
    site.period -= 1


def wrong_frequencies(site: Any) -> None:
    """Rotate queries and keys a little too fast."""
    rotary = site.rotary
    replace_rotation(site, rotary.model_copy(update={"scale": 1.01 * rotary.scale}))


def no_rotation(site: Any) -> None:
    """Rotate nothing by time."""
    override_methods(site, _rotate=lambda self, x, *blocks: x)


def wrong_frequencies_when_causal(site: Any) -> None:
    """Rotate queries and keys a little too fast, but not in the bidirectional form, which is compared with the base."""
    fast = site.rotary.model_copy(update={"scale": 1.01 * site.rotary.scale})
    replace_rotation(site, fast, lambda now: not now.bidirectional)

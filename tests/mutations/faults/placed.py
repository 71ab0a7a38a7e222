"""Where a module thinks that frames stand."""

from typing import Any

from tests.mutations.faults.means import become, forward_under, rotate_by
from v2w_convert.sites import Site


def one_late(site: Site) -> None:
    """Count frames from one."""
    block_indices = type(site).block_indices
    become(site, block_indices=lambda self: block_indices(self) + 1)


def one_late_in_streams(site: Site) -> None:
    """Count frames from one, but only when continuing a stream."""
    block_indices = type(site).block_indices
    become(site, block_indices=lambda self: block_indices(self) + (self.context.past is not None))


def stands_still(site: Site) -> None:
    """Count every frame as the first."""
    block_indices = type(site).block_indices
    become(site, block_indices=lambda self: 0 * block_indices(self))


def ignores_offset(site: Site) -> None:
    """Take no notice of where finetuning says that a clip begins."""
    forward_under(site, lambda now: {"offset": None})


def wrong_offset(site: Site) -> None:
    """Be one frame off where finetuning says that a clip begins."""
    forward_under(site, lambda now: {"offset": None if now.offset is None else now.offset + 1})


def wrong_period(site: Any) -> None:
    site.period -= 1


def wrong_frequencies(site: Any) -> None:
    """Turn queries and keys a little too fast."""
    rotary = site.rotary
    rotate_by(site, rotary.model_copy(update={"scale": 1.01 * rotary.scale}))


def no_rotation(site: Any) -> None:
    """Turn nothing by time."""
    become(site, _rotate=lambda self, x, *blocks: x)


def wrong_frequencies_causally(site: Any) -> None:
    """Turn queries and keys a little too fast, but not in the form in which the base is compared."""
    fast = site.rotary.model_copy(update={"scale": 1.01 * site.rotary.scale})
    rotate_by(site, fast, lambda now: not now.bidirectional)

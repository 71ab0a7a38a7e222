"""Calls of sites, recorded in a forward of the whole model, so that each site can be called alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from v2w_convert.sites import ForwardContext, Site
from v2w_convert.world.model import World


@dataclass
class RecordedCall:
    """One call of one site. The site itself is not kept: it would hold the weights of a model that is dropped.

    Attributes:
        leaves: Its arguments, flattened.
        tree: Their structure.
        index: The first floating tensor among `leaves`, ((b t) …).
        context: The forward pass.
    """

    leaves: list[Any]
    tree: TreeSpec
    index: int
    context: ForwardContext

    def spiked(self, size: float) -> "RecordedCall":
        """Return the call with one activation of every block that is so large."""
        x = self.leaves[self.index].clone()
        folded = x.unflatten(0, (self.context.b * self.context.t, -1))
        folded[(slice(None), *[0] * (folded.ndim - 1))] = size
        leaves = [*self.leaves]
        leaves[self.index] = x
        return replace(self, leaves=leaves)

    def output(
        self, site: Site, t: int, clip: int | None = None, frame: int = 0, *, bidirectional: bool = False
    ) -> Tensor:
        """Call the site again, in the same pass over clips of `t` blocks.

        Args:
            site: The site.
            t: Blocks in each clip.
            clip: The clip in which a block of the input is changed; None: none.
            frame: The block that is changed.
            bidirectional: True to call the site's bidirectional form.

        Returns:
            All that the site returns, (b t …).
        """
        leaves, b = list(self.leaves), self.context.b
        if clip is not None:
            x = leaves[self.index].clone().unflatten(0, (b, t, -1))
            generator = torch.Generator().manual_seed(1)
            x[clip, frame] += torch.randn(x[clip, frame].shape, generator=generator).to(x)
            leaves[self.index] = x.flatten(0, 2)
        args, kwargs = tree_unflatten(leaves, self.tree)
        site.context = replace(self.context, bidirectional=bidirectional)
        outputs = [x for x in tree_leaves(site(*args, **kwargs)) if isinstance(x, Tensor)]
        return torch.cat([x.reshape(b, t, -1) for x in outputs], 2)


def record_calls(world: World, run: Callable[[], Any]) -> dict[str, RecordedCall]:
    """Return the first call of every site during `run`. Sites that receive no floating tensor are left out."""
    calls: dict[str, RecordedCall] = {}

    def hook(site: Any, args: Any, kwargs: Any) -> None:
        leaves, tree = tree_flatten((args, kwargs))
        index = next(
            (i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.is_floating_point()), None
        )
        if index is not None and site.site_name not in calls:
            copied = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
            calls[site.site_name] = RecordedCall(copied, tree, index, site.context)

    handles = [site.register_forward_pre_hook(hook, with_kwargs=True) for site in world.sites.values()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls

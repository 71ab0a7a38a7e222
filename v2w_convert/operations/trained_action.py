"""An action embedding that the base was trained with: the one in Vid2World's released checkpoints.

It enters where the noise level does, as `action` does. The first frame, which no action led to, is given the zero
action; a dropped action adds nothing at all (Vid2World, arXiv 2505.14357, section 4.2, and its released code).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.operations.base import Invariant, Operation
from v2w_convert.sites import Site, swap_class


class TrainedAction(Operation):
    """Add what the base's own `embed_action` makes of the action that led to a frame to the output of the module at `at`."""

    name: ClassVar[str] = "trained_action"

    def why_not(self, module: nn.Module) -> str | None:
        linear = any(isinstance(m, nn.Linear) for m in module.modules())
        return None if linear else f"is a {type(module).__name__} without a linear layer"

    def install(
        self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None, n: int = 1
    ) -> None:
        if not hasattr(root, "embed_action"):
            kind = type(root).__name__
            raise V2WError(f"{self.name} at {name}", f"a {kind} was trained without actions", "action")
        swap_class(module, TrainedActionSite, name)
        # Not an attribute: the embedding is the base's, not also this site's.
        module.embed = partial(_embed, root)  # type: ignore[assignment]

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        return []  # what was trained is in the base's tensors, and they are kept


def _embed(root: Any, actions: Tensor) -> Tensor:
    return root.embed_action(actions)


class TrainedActionSite(Site):
    """A module that embeds each clip's noise level: ((b t) …) -> ((b t) d)."""

    embed: Callable[[Tensor], Tensor]

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        embedded = super().forward(*args, **kwargs)
        now = self.context
        if now.bidirectional or now.actions is None:
            return embedded
        first = (self.positions() == 0)[None, :, None]
        actions = torch.where(
            first, 0, now.actions.squeeze(2).to(embedded.dtype)
        )  # a block is one frame here
        told = self.embed(actions)
        if now.dropped is not None:
            told = torch.where(now.dropped, 0, told)
        return embedded + told.flatten(0, 1)

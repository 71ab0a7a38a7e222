"""An action embedding that the base was trained with: the one in Vid2World's released checkpoints.

It enters where the noise level does, as `action` does. The first frame, which no action led to, receives the zero
action; a dropped action adds nothing at all (Vid2World, arXiv 2505.14357, section 4.2, and its released code).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.operations.base import Invariant, Operation
from v2w_convert.sites import Reference, Site, swap_class

OWN_LAYERS = "action_emb"  # how the names of the base's layers for actions begin


class TrainedAction(Operation):
    """Add the base's own embedding of the action that led to a frame to the output of the module at `at`."""

    name: ClassVar[str] = "trained_action"
    embeds_actions: ClassVar[bool] = True

    def why_not(self, module: nn.Module) -> str | None:
        linear = any(isinstance(m, nn.Linear) for m in module.modules())
        return None if linear else f"is a {type(module).__name__} without a linear layer"

    def action_parameters(self, name: str, root: nn.Module) -> set[str]:
        return {name for name, _ in root.named_parameters() if name.startswith(OWN_LAYERS)}

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        if root is None or not hasattr(root, "embed_action"):
            kind = type(root).__name__
            raise V2WError(f"{self.name} at {name}", f"a {kind} was trained without actions", "action")
        swap_class(module, TrainedActionSite, name, root=Reference(root))

    def block_faults(self, frames_per_block: int) -> list[str]:
        if frames_per_block == 1:
            return []
        return [f"blocks of {frames_per_block} frames, but the base was trained with one action at a time"]

    def trained_action_dim(self, config: Mapping[str, Any]) -> int | None:
        return int(config["action_dim"])

    def forbids(self, option: str) -> str | None:
        return "its kernels are causal already, and trained" if option == "transfer" else None

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        return []  # what was trained is in the base's tensors, and they are kept


class TrainedActionSite(Site):
    """A module that embeds each clip's noise level: ((b t) …) -> ((b t) d).

    Attributes:
        root: The base, whose `embed_action` maps actions (… a) to (… d).
    """

    root: Reference[Any]

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        embedded: Tensor = super().forward(*args, **kwargs)
        now = self.context
        if now.bidirectional or now.actions is None:
            return embedded
        first = (self.block_indices() == 0)[None, :, None]  # a block is one frame here
        actions = torch.where(first, 0, now.actions.squeeze(2).to(embedded.dtype))
        added: Tensor = self.root.module.embed_action(actions)
        if now.dropped is not None:
            added = torch.where(now.dropped, 0, added)
        return embedded + added.flatten(0, 1)

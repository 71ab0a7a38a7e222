"""The action enters where the noise level does (Vid2World, arXiv 2505.14357, section 4.2 and B.2).

Its embedding is added to the embedding of each frame's noise level. The last layer starts at zero,
so before finetuning every action gives exactly the output without one. (The paper's released code
starts it at random and has no learned "no action"; a frame without an action got the zero vector.)
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.sites import Site, swap_class

ACTION_MODULE = "v2w_action"
HIDDEN = (
    1024  # some families embed the noise level in 12,288 numbers; an action needs no such square matrices
)


class Action(Operation):
    """Add an embedding of the action that led to a frame to the output of the module at `at`."""

    name: ClassVar[str] = "action"

    def why_not(self, module: nn.Module) -> str | None:
        return None if _width(module) else f"is a {type(module).__name__} without a last linear layer"

    def new_tensors(self, module: nn.Module, action_dim: int, n: int = 1) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            child = ActionEmbedding(action_dim, _width(module), n)
        return {f"{ACTION_MODULE}.{name}": tuple(tensor.shape) for name, tensor in child.state_dict().items()}

    def initial_value(self, parameter: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        match parameter.removeprefix(f"{ACTION_MODULE}."):
            case "first.weight" | "middle.weight":
                return torch.randn(shape, generator=generator) / shape[1] ** 0.5
            case "none":
                return torch.randn(shape, generator=generator)
            case "scale":
                return torch.ones(shape)
        return torch.zeros(shape)

    def install(
        self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None, n: int = 1
    ) -> None:
        module.add_module(ACTION_MODULE, ActionEmbedding(action_dim, _width(module), n))
        swap_class(module, ActionSite, name)

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        b, t, a = 2, 3, len(site.v2w_action.center)
        n = site.v2w_action.first.in_features // a
        width = next(m.in_features for m in base.modules() if isinstance(m, nn.Linear))
        told = torch.randn(b * t, width, generator=generator, dtype=torch.float64)
        site.context = clip_context(b, t, n)
        site.context.actions = torch.randn(b, t, n, a, generator=generator, dtype=torch.float64)
        sentence = "before training, output with any action equals the base's"
        return [Invariant(sentence, max_abs_diff(site(told), base(told)), 0.0)]


def _width(module: nn.Module) -> int:
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features if linear else 0


class ActionEmbedding(nn.Module):
    """Linear - SiLU - Linear - SiLU - Linear on a block's normalised actions (… n a) -> (… d), at most HIDDEN wide within.

    The actions of a block go together: the first layer reads all of them, each with weights of its own.

    center, scale   (a,) what finetuning found the actions' mean and deviation to be; buffers
    none            (hidden,) the learned "no action", in place of what the first layer makes of an action: the zero
                    action is an action and has an output of its own
    """

    center: Tensor
    scale: Tensor

    def __init__(self, action_dim: int, width: int, n: int = 1):
        super().__init__()
        self.register_buffer("center", torch.zeros(action_dim))
        self.register_buffer("scale", torch.ones(action_dim))
        hidden = min(width, HIDDEN)
        self.first = nn.Linear(n * action_dim, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, width)
        self.none = nn.Parameter(torch.zeros(hidden))

    def forward(self, actions: Tensor, dropped: Tensor) -> Tensor:
        taken = (actions - self.center) / self.scale
        own = torch.einsum("...na,hna->...nh", taken, self.first.weight.unflatten(1, actions.shape[-2:]))
        hidden = torch.where(dropped[..., None], self.none, own + self.first.bias).sum(-2)
        return self.last(F.silu(self.middle(F.silu(hidden))))


class ActionSite(Site):
    """A module that embeds each clip's noise level: ((b t) …) -> ((b t) d)."""

    v2w_action: ActionEmbedding

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        embedded = super().forward(*args, **kwargs)
        now = self.context
        if now.bidirectional:
            return embedded
        # Nothing led to the first frame of all.
        dropped = (self.frame_indices() == 0).expand(now.b, -1, -1)
        if now.dropped is not None:
            dropped = dropped | now.dropped
        if now.actions is None:
            actions = self.v2w_action.center.expand(now.b, now.t, now.frames_per_block, -1)
            dropped = torch.ones_like(dropped)
        else:
            actions = now.actions.to(embedded.dtype)
        return embedded + self.v2w_action(actions, dropped).flatten(0, 1).to(embedded.dtype)

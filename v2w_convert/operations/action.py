"""The action enters where the noise level does (Vid2World, arXiv 2505.14357, section 4.2 and B.2).

Its embedding is added to the embedding of each frame's noise level. The last layer starts at zero,
so before finetuning every action gives exactly the output without one. (The paper's released code
starts it at random and has no learned "no action"; a frame without an action got the zero vector.)
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_convert.operations.base import Kept, Operation, gap, whole_clip
from v2w_convert.stream import Site, become

CHILD = "v2w_action"
HIDDEN = (
    1024  # some families embed the noise level in 12,288 numbers; an action needs no such square matrices
)


class Action(Operation):
    """Add an embedding of the action that led to a frame to the output of the module at `at`."""

    name: ClassVar[str] = "action"

    def refusal(self, module: nn.Module) -> str | None:
        return None if _width(module) else f"is a {type(module).__name__} without a last linear layer"

    def new_tensors(self, module: nn.Module, action_dim: int) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            child = ActionEmbedding(action_dim, _width(module))
        return {f"{CHILD}.{name}": tuple(tensor.shape) for name, tensor in child.state_dict().items()}

    def initial(self, parameter: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        match parameter.removeprefix(f"{CHILD}."):
            case "first.weight" | "middle.weight":
                return torch.randn(shape, generator=generator) / shape[1] ** 0.5
            case "none":
                return torch.randn(shape, generator=generator)
            case "scale":
                return torch.ones(shape)
        return torch.zeros(shape)

    def install(self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None) -> None:
        module.add_module(CHILD, ActionEmbedding(action_dim, _width(module)))
        become(module, ActionSite, name)

    def promise(self, base: Any, site: Any, generator: torch.Generator, unit: float) -> list[Kept]:
        b, t = 2, 3
        width = next(m.in_features for m in base.modules() if isinstance(m, nn.Linear))
        told = torch.randn(b * t, width, generator=generator, dtype=torch.float64)
        site.current = whole_clip(b, t)
        a = site.v2w_action.first.in_features
        site.current.actions = torch.randn(b, t, a, generator=generator, dtype=torch.float64)
        sentence = "before training, output with any action equals the base's"
        return [Kept(sentence, gap(site(told), base(told)), 0.0)]


def _width(module: nn.Module) -> int:
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features if linear else 0


class ActionEmbedding(nn.Module):
    """Linear - SiLU - Linear - SiLU - Linear on normalised actions (… a) -> (… d), at most HIDDEN wide within.

    center, scale   (a,) what finetuning found the actions' mean and deviation to be; buffers
    none            (hidden,) the learned "no action", in place of the first layer's output: the zero
                    action is an action and has an output of its own
    """

    center: Tensor
    scale: Tensor

    def __init__(self, action_dim: int, width: int):
        super().__init__()
        self.register_buffer("center", torch.zeros(action_dim))
        self.register_buffer("scale", torch.ones(action_dim))
        hidden = min(width, HIDDEN)
        self.first = nn.Linear(action_dim, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, width)
        self.none = nn.Parameter(torch.zeros(hidden))

    def forward(self, actions: Tensor, dropped: Tensor) -> Tensor:
        hidden = self.first((actions - self.center) / self.scale)
        hidden = torch.where(dropped[..., None], self.none, hidden)
        return self.last(F.silu(self.middle(F.silu(hidden))))


class ActionSite(Site):
    """A module that embeds each clip's noise level: ((b t) …) -> ((b t) d)."""

    v2w_action: ActionEmbedding

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        embedded = super().forward(*args, **kwargs)
        now = self.current
        if now.bidirectional:
            return embedded
        # Nothing led to the first frame of all.
        dropped = (self.positions() == 0).expand(now.b, -1)
        if now.dropped is not None:
            dropped = dropped | now.dropped
        if now.actions is None:
            actions = self.v2w_action.center.expand(now.b, now.t, -1)
            dropped = torch.ones_like(dropped)
        else:
            actions = now.actions.to(embedded.dtype)
        return embedded + self.v2w_action(actions, dropped).flatten(0, 1).to(embedded.dtype)

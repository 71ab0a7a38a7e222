"""The action enters where the noise level does (Vid2World, arXiv 2505.14357, section 4.2 and B.2).

Its embedding is added to the embedding of each frame's noise level. The last layer starts at zero,
so before finetuning every action gives exactly the output without one. (The paper's released code
starts it at random and has no learned "no action"; a frame without an action got the zero vector.)
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.operations.base import Invariant, Operation, clip_context, max_abs_diff
from v2w_convert.sites import Site, swap_class

ACTION_MODULE = "v2w_action"
MAX_HIDDEN = (
    1024  # some families embed the noise level in 12,288 numbers: too wide for an action's square matrices
)


class Action(Operation):
    """Add an embedding of the action that led to a frame to the output of the module at `at`."""

    name: ClassVar[str] = "action"
    embeds_actions: ClassVar[bool] = True

    def why_not(self, module: nn.Module) -> str | None:
        return None if _width(module) else f"is a {type(module).__name__} without a last linear layer"

    def new_tensors(
        self, module: nn.Module, action_dim: int, frames_per_block: int = 1
    ) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            child = ActionEmbedding(action_dim, _width(module), frames_per_block)
        return {f"{ACTION_MODULE}.{name}": tuple(tensor.shape) for name, tensor in child.state_dict().items()}

    def initial_value(self, parameter: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        match parameter.removeprefix(f"{ACTION_MODULE}."):
            case "first.weight" | "middle.weight":
                return torch.randn(shape, generator=generator).div(shape[1] ** 0.5)
            case "none":
                return torch.randn(shape, generator=generator)
            case "scale":
                return torch.ones(shape)
        return torch.zeros(shape)

    def action_parameters(self, name: str, root: nn.Module) -> set[str]:
        place = f"{name}.{ACTION_MODULE}"
        return {f"{place}.{parameter}" for parameter, _ in root.get_submodule(place).named_parameters()}

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        module.add_module(ACTION_MODULE, ActionEmbedding(action_dim, _width(module), frames_per_block))
        swap_class(module, ActionSite, name)

    def set_action_statistics(
        self, site: Any, mean: Tensor, std: Tensor, stored: Mapping[str, torch.dtype]
    ) -> None:
        dtype = stored[f"{ACTION_MODULE}.center"]
        center = site.v2w_action.get_buffer("center").copy_(mean.to(dtype))
        scale = site.v2w_action.get_buffer("scale").copy_(std.to(dtype))
        if not bool(torch.isfinite(center).all() and torch.isfinite(scale).all() and (scale > 0).all()):
            found = f"actions of mean {mean.tolist()} and deviation {std.tolist()} do not fit {dtype}"
            raise V2WError("normalise the actions", found, "actions in other units")

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        b, t, a = 2, 3, len(site.v2w_action.center)
        n = site.v2w_action.first.in_features // a
        width = next(m.in_features for m in base.modules() if isinstance(m, nn.Linear))
        level = torch.randn(b * t, width, generator=generator, dtype=torch.float64)
        site.context = clip_context(b, t, n)
        site.context.actions = torch.randn(b, t, n, a, generator=generator, dtype=torch.float64)
        sentence = "before training, output with any action equals the base's"
        return [Invariant(sentence, max_abs_diff(site(level), base(level)), 0.0)]


def _width(module: nn.Module) -> int:
    """The width of what the module's last linear layer gives; 0 without one."""
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features if linear else 0


class ActionEmbedding(nn.Module):
    """Linear - SiLU - Linear - SiLU - Linear on a block's normalised actions (… n a) -> (… d).

    The actions of a block go together: the first layer reads all of them, each with weights of its own. Hidden layers
    are at most MAX_HIDDEN wide.

    Attributes:
        center: (a,) the actions' mean, as finetuning found it; a buffer.
        scale: (a,) their standard deviation; a buffer.
        none: (hidden,) the learned "no action", in place of what the first layer makes of an action. The zero action
            is an action, and has an output of its own.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, action_dim: int, width: int, frames_per_block: int = 1):
        super().__init__()
        self.register_buffer("center", torch.zeros(action_dim))
        self.register_buffer("scale", torch.ones(action_dim))
        hidden = min(width, MAX_HIDDEN)
        self.first = nn.Linear(frames_per_block * action_dim, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, width)
        self.none = nn.Parameter(torch.zeros(hidden))

    def forward(self, actions: Tensor, dropped: Tensor) -> Tensor:
        """The embedding (b t d) of actions (b t n a), `dropped` (b t n) of which are none."""
        taken = (actions - self.center) / self.scale
        weight = self.first.weight.unflatten(1, actions.shape[-2:]).permute(1, 2, 0)  # (n a h)
        own = (taken[..., None, :] @ weight)[..., 0, :]  # no einsum: WebGPU's onnxruntime has none
        hidden = torch.where(dropped[..., None], self.none, own + self.first.bias).sum(-2)
        embedded: Tensor = self.last(F.silu(self.middle(F.silu(hidden))))
        return embedded


class ActionSite(Site):
    """A module that embeds each clip's noise level: ((b t) …) -> ((b t) d)."""

    v2w_action: ActionEmbedding

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        embedded: Tensor = super().forward(*args, **kwargs)
        now = self.context
        if now.bidirectional:
            return embedded
        # No action led to the stream's first frame.
        dropped = (self.frame_indices() == 0).expand(now.b, -1, -1)
        if now.dropped is not None:
            dropped = dropped | now.dropped
        if now.actions is None:
            actions = self.v2w_action.center.expand(now.b, now.t, now.frames_per_block, -1)
            dropped = torch.ones_like(dropped)
        else:
            actions = now.actions.to(embedded.dtype)
        output: Tensor = embedded + self.v2w_action(actions, dropped).flatten(0, 1).to(embedded.dtype)
        return output

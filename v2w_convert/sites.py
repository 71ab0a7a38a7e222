"""What is carried from frame to frame, and what one pass through the model tells its sites.

A *site* is a module of the base that an operation has changed. The world model calls the base with
the frames folded into the batch, block by block, so a site cannot see from its input how many clips and
blocks there are, or what came before: the `Pass` tells it. It is bound to every site before the forward and stays
bound until the next, because gradient checkpointing calls sites again during the backward.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

SiteState = dict[str, Tensor]


class State(NamedTuple):
    """A stream's memory: of fixed size, a plain nest of tensors, never changed in place.

    cursor  () int64, how many blocks have been committed
    sites   site name -> what that site keeps (ring buffers of keys and values, last inputs, sums)

    Keeping an old State and stepping on from it twice branches a rollout.
    """

    cursor: Tensor
    sites: dict[str, SiteState]


@dataclass
class ForwardContext:
    """One forward pass over t blocks of b clips. A block is what is denoised at once: one frame, mostly.

    frames_per_block     latent frames in a block
    positions_per_block  positions by which the base's rotary embedding advances per block: frames_per_block, or fewer
                         where the base packs several frames into one token
    cursor         () int64: blocks committed before this pass
    past           what the stream keeps, by site; None for a clip that begins with its first frame
    commit         whether sites should put their state after these frames into `new_states`
    offset         (b,) int64: added to frame indices where a site counts them (finetuning draws it)
    actions        (b t n a), that of a frame led to it from the frame before; None: no action is known
    dropped        (b t n) bool: frames whose action is replaced by the learned "no action"
    bidirectional  every operation takes the base's form: the identity claim of `v2w verify`
    """

    b: int
    t: int
    cursor: Tensor
    frames_per_block: int = 1
    positions_per_block: int = 1
    past: dict[str, SiteState] | None = None
    commit: bool = False
    offset: Tensor | None = None
    actions: Tensor | None = None
    dropped: Tensor | None = None
    bidirectional: bool = False
    new_states: dict[str, SiteState] = field(default_factory=dict)


class Site(nn.Module):
    """The part that all changed modules share; operations derive their module faces from it."""

    site_name: str
    context: ForwardContext

    def frames(self, x: Tensor) -> Tensor:
        """Unfold: ((b t) c n …) -> (b c (t n) …), n frames per clip, time on axis 2 as convolutions and norms want."""
        return x.unflatten(0, (self.context.b, self.context.t)).movedim(1, 2).flatten(2, 3)

    def fold(self, x: Tensor) -> Tensor:
        """The inverse of `frames`."""
        return x.unflatten(2, (self.context.t, -1)).movedim(2, 1).flatten(0, 1)

    @property
    def past(self) -> SiteState | None:
        return None if self.context.past is None else self.context.past[self.site_name]

    def keep(self, state: SiteState) -> None:
        if self.context.commit:
            self.context.new_states[self.site_name] = state

    def positions(self) -> Tensor:
        """Indices (t,) int64 of this pass's blocks in the stream."""
        return self.context.cursor + torch.arange(self.context.t, device=self.context.cursor.device)

    def frame_indices(self) -> Tensor:
        """Indices (t n) int64 of this pass's frames in the stream."""
        within = torch.arange(self.context.frames_per_block, device=self.context.cursor.device)
        return self.positions()[:, None] * self.context.frames_per_block + within


def swap_class(module: nn.Module, face: type[Site], name: str, **settings: object) -> None:
    """Give `module` the behaviour of `face`, in place; its parameters keep their names and values.

    The class is swapped for a subclass of `face` and of the module's own class, so `super().forward`
    within a face is the base's forward, and isinstance checks of the base's code still hold.
    """
    module.__class__ = type(f"{face.__name__}{type(module).__name__}", (face, type(module)), {})
    module.site_name = name  # type: ignore[assignment]
    for key, value in settings.items():
        setattr(module, key, value)


def bind_context(sites: dict[str, Site], context: ForwardContext) -> None:
    for site in sites.values():
        site.context = context

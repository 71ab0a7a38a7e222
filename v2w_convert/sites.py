"""Sites, and what a forward pass carries to them.

A *site* is a module of the base that an operation has changed. The world model calls the base with the frames folded
into the batch, block by block, so a site cannot see from its input how many clips and blocks there are, or what came
before: a `ForwardContext` says it. It is bound to every site before the forward and stays bound until the next,
because gradient checkpointing calls sites again during the backward.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, SupportsIndex, TypeVar

import torch
from torch import Tensor, nn

SiteState = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)


class State(NamedTuple):
    """The state of a stream: of fixed size, a plain nest of tensors, never changed in place.

    Keeping an old State and stepping on from it twice branches a rollout.

    Attributes:
        cursor: () int64, how many blocks have been committed.
        sites: Site name -> what that site keeps (ring buffers of keys and values, last inputs, sums).
    """

    cursor: Tensor
    sites: dict[str, SiteState]


@dataclass
class ForwardContext:
    """One forward pass over t blocks of b clips. A block is what is denoised at once, often a single frame.

    Attributes:
        b: Number of clips.
        t: Number of blocks in each.
        cursor: () int64, blocks committed before this pass.
        frames_per_block: Latent frames in a block.
        positions_per_block: Positions by which the base's rotary embedding advances per block: `frames_per_block`, or
            fewer where the base packs several frames into one token.
        past: What the stream keeps, by site; None for a clip that begins with its first frame.
        commit: Whether sites put their state after these frames into `new_states`.
        ahead: Blocks at the end which a commit leaves out: they see the others, and leave no trace.
        offset: (b,) int64, added to frame indices where a site counts them (finetuning samples it).
        actions: (b t n a), the action that led to each frame from the frame before; None: no action is known.
        dropped: (b t n) bool, frames whose action is replaced by the learned "no action".
        first_frames: Picture-like condition -> that of the stream's first frame (b c h w).
        bidirectional: Every operation takes the base's form, as the identity claim of `v2w verify` needs it.
        new_states: Site name -> its state after the committed blocks, where `commit` is set.
    """

    b: int
    t: int
    cursor: Tensor
    frames_per_block: int = 1
    positions_per_block: int = 1
    past: dict[str, SiteState] | None = None
    commit: bool = False
    ahead: int = 0
    offset: Tensor | None = None
    actions: Tensor | None = None
    dropped: Tensor | None = None
    first_frames: dict[str, Tensor] = field(default_factory=dict)
    bidirectional: bool = False
    new_states: dict[str, SiteState] = field(default_factory=dict)

    @property
    def committed(self) -> int:
        """How many blocks, from the first on, a commit writes."""
        return self.t - self.ahead


def block_indices(context: ForwardContext) -> Tensor:
    """Indices (t,) int64 of a pass's blocks in the stream."""
    return context.cursor + torch.arange(context.t, device=context.cursor.device)


def frame_indices(context: ForwardContext, blocks: Tensor | None = None) -> Tensor:
    """Indices (t n) int64 of a pass's frames in the stream.

    Args:
        context: The pass.
        blocks: Indices (t,) of its blocks; None: as `block_indices` has them.
    """
    blocks = block_indices(context) if blocks is None else blocks
    within = torch.arange(context.frames_per_block, device=context.cursor.device)
    return blocks[:, None] * context.frames_per_block + within


class Reference(Generic[M]):
    """A module that a site uses but does not own: its parameters are not also the site's.

    Attributes:
        module: The module.
    """

    def __init__(self, module: M):
        self.module = module

    def tensor(self, name: str) -> Tensor:
        """The module's parameter or buffer of that name, as it is now."""
        owner, _, leaf = name.rpartition(".")
        found: Tensor = getattr(self.module.get_submodule(owner), leaf)
        return found


class Site(nn.Module):
    """What all changed modules share; operations derive their modules from it.

    Attributes:
        site_name: Path of the module in the base.
        context: The forward pass that is going on, or was last.
    """

    site_name: str
    context: ForwardContext

    def unfold(self, x: Tensor) -> Tensor:
        """((b t) c n …) -> (b c (t n) …), n frames per block: time on axis 2, as convolutions and norms want it."""
        output: Tensor = x.unflatten(0, (self.context.b, self.context.t)).movedim(1, 2).flatten(2, 3)
        return output

    def fold(self, x: Tensor) -> Tensor:
        """The inverse of `unfold`."""
        output: Tensor = x.unflatten(2, (self.context.t, -1)).movedim(2, 1).flatten(0, 1)
        return output

    @property
    def past(self) -> SiteState | None:
        """What the stream keeps for this site; None for a clip that begins with its first frame."""
        return None if self.context.past is None else self.context.past[self.site_name]

    def keep(self, state: SiteState) -> None:
        """Hand in the site's state after the committed blocks, if the pass commits."""
        if self.context.commit:
            self.context.new_states[self.site_name] = state

    def block_indices(self) -> Tensor:
        """Indices (t,) int64 of this pass's blocks in the stream."""
        return block_indices(self.context)

    def frame_indices(self) -> Tensor:
        """Indices (t n) int64 of this pass's frames in the stream."""
        return frame_indices(self.context, self.block_indices())


def swap_class(module: nn.Module, face: type[Site], name: str, **settings: object) -> None:
    """Give `module` the behaviour of `face`, in place; its parameters keep their names and values.

    The class is swapped for a subclass of `face` and of the module's own class, so `super().forward` within a face is
    the base's forward, and isinstance checks of the base's code still hold.

    Args:
        module: The base's module.
        face: The behaviour.
        name: Path of the module in the base.
        settings: Attributes that the face needs.
    """
    module.__class__ = site_class(face, type(module))
    for key, value in {"site_name": name, **settings}.items():
        setattr(module, key, value)


_classes: dict[tuple[type[Site], type[nn.Module]], type[nn.Module]] = {}


def site_class(face: type[Site], base: type[nn.Module]) -> type[nn.Module]:
    """The one subclass of `face` and `base`; its modules can be pickled and copied."""
    if (face, base) not in _classes:
        name = f"{face.__name__}{base.__name__}"
        _classes[face, base] = type(name, (face, base), {"__reduce_ex__": _reduce_site})
    return _classes[face, base]


def _reduce_site(site: Site, protocol: SupportsIndex) -> str | tuple[Any, ...]:
    """How a site is pickled: its class cannot be imported by a name, so by the two classes it is made of.

    The context is left out: it belongs to a pass, and may hold tensors of a graph.
    """
    if "__reduce_ex__" not in vars(type(site)):  # a subclass that someone else made
        return object.__reduce_ex__(site, protocol)
    face, base = type(site).__bases__
    return _new_site, (face, base), {key: value for key, value in vars(site).items() if key != "context"}


def _new_site(face: type[Site], base: type[nn.Module]) -> nn.Module:
    kind = site_class(face, base)
    return kind.__new__(kind)


def bind_context(sites: Mapping[str, Site], context: ForwardContext) -> None:
    """Make `context` the forward pass of all `sites`."""
    for site in sites.values():
        site.context = context

"""What an operation is: its data, its map on tensors, its module, its invariants, and what the rest asks of it.

A new operation is a subclass of `Operation` in a file of its own, and one line in `v2w_convert.operations.OPERATIONS`.
Whatever the rest of the code has to know of an operation is a method here, with a default for operations of which
there is nothing to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from v2w_convert.sites import ForwardContext

Problem = Literal["leaks_future", "forgets_past"]


@dataclass(frozen=True)
class Invariant:
    """One statement about what an operation keeps at one site, and what was measured.

    Attributes:
        sentence: What should hold.
        measured: Largest absolute difference found.
        allowed: Largest absolute difference that rounding explains; 0 where the statement is bitwise.
    """

    sentence: str
    measured: float
    allowed: float

    @property
    def ok(self) -> bool:
        """Whether the statement holds; false for NaN."""
        return self.measured <= self.allowed


class ReceptiveField(NamedTuple):
    """Which earlier blocks a site sees.

    Attributes:
        back: How many blocks back; None: all.
        first: How many of the stream's first blocks besides.
    """

    back: int | None
    first: int = 0

    @property
    def sees_past(self) -> bool:
        """Whether any earlier block is seen."""
        return self.back != 0 or self.first > 0

    def visible(self, t: int) -> Tensor:
        """Which of t blocks (rows) see which (columns), themselves included: (t t) bool."""
        index = torch.arange(t)
        near = index >= index[:, None] - (t if self.back is None else self.back)
        return (index <= index[:, None]) & (near | (index < self.first))


class AttentionWindow(NamedTuple):
    """The frames that an operation keeps in view in ring buffers.

    Attributes:
        frames: Frames that a frame sees, itself included; None: all.
        sinks: First frames of the stream that stay in view besides the window.
    """

    frames: int | None
    sinks: int = 0


class DraftFields(NamedTuple):
    """What a draft of a plan says of an operation at one site.

    Attributes:
        fields: The operation's fields, without `at` and without its window.
        open: What could not be settled, in sentences.
    """

    fields: dict[str, Any] = {}
    open: tuple[str, ...] = ()


class DraftSite(Protocol):
    """A module through which frames mix, as `v2w plan` meets it: in a tiny model, with a call that was recorded.

    The methods measure what operations commonly have to know.
    """

    def softmax_attention(self) -> DraftFields:
        """The fields of `causal_attention`: rotation in time, where text is, how the base attends."""

    def linear_attention(self) -> DraftFields:
        """The fields of `linear_attention`: rotation in time."""


class Operation(BaseModel):
    """One kind of change, made wherever `at` matches. The pydantic fields are the plan's grammar.

    Attributes:
        name: The operation's name in a plan.
        mixes: Whether it serves modules through which frames mix: `v2w plan` offers it for one that it fits.
        embeds_actions: Whether actions enter the model at its sites.
        equals_base_at_last_frame: Whether a clip's last frame gets what the bidirectional form gives it.
        ring_states: Stream states of its sites that are ring buffers (b s heads blocks l d), with a slot for every
            block in view but the present one. Such an operation has an
            `attention_window`.
        options: Fields that a user may set from the command line (`adjusted`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]
    mixes: ClassVar[bool] = False
    embeds_actions: ClassVar[bool] = False
    equals_base_at_last_frame: ClassVar[bool] = False
    ring_states: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ()

    at: str = Field(description="Paths of the modules: `*` stays within one component, `**` crosses dots.")

    # ------------------------------------------------------------------------------------------------- the plan

    def resolve(self, config: Mapping[str, Any]) -> Self:
        """The same with numbers in place of expressions over the base's config.

        Raises:
            ValueError: An expression cannot be evaluated, or a number is out of range.
        """
        return self

    def why_not(self, module: nn.Module) -> str | None:
        """Why this operation does not fit `module` ("is a Linear, not a convolution"); None if it does."""
        raise NotImplementedError

    def block_faults(self, frames_per_block: int) -> list[str]:
        """What of this (resolved) operation does not go with blocks of so many frames, in sentences."""
        return []

    def named_tensors(self) -> list[str]:
        """Paths of the base's parameters and buffers that the operation's fields name."""
        return []

    def trained_action_dim(self, config: Mapping[str, Any]) -> int | None:
        """Numbers in the actions that the base was trained with, by its config; None: it was trained without."""
        return None

    @classmethod
    def adjusted(cls, fields: dict[str, Any], option: str, value: Any) -> dict[str, Any]:
        """The operation's fields in a plan with one of `options` set."""
        return {**fields, option: value}

    def forbids(self, option: str) -> str | None:
        """Why a plan with this operation does not take a command-line option; None if it does not mind."""
        return None

    @classmethod
    def draft(cls, site: DraftSite) -> DraftFields:
        """The fields for a site of which nothing is known but what can be measured."""
        return DraftFields()

    def suggestion(self, problem: Problem) -> str | None:
        """Which other field would solve a problem that `v2w verify` found at a site; None: no field would."""
        return None

    # -------------------------------------------------------------------------------------------------- tensors

    def transfer_tensor(self, parameter: str, tensor: Tensor) -> Tensor | None:
        """The site's tensor called `parameter` (relative name) after surgery; None: it is kept bit for bit.

        Pure, one tensor at a time, elementwise arithmetic in a fixed order, rounded to the stored dtype at the end, so
        that files and live models get the same bits.
        """
        return None

    def new_tensors(
        self, module: nn.Module, action_dim: int, frames_per_block: int = 1
    ) -> dict[str, tuple[int, ...]]:
        """Relative names and shapes of the tensors that this operation adds at a site."""
        return {}

    def initial_value(self, parameter: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The first value (float32) of an added tensor."""
        raise NotImplementedError

    def action_parameters(self, name: str, root: nn.Module) -> set[str]:
        """Names in the base of the parameters that embed actions for the site called `name`.

        Args:
            name: Path of the site in the base.
            root: The base, the operation installed, on any device.
        """
        return set()

    # --------------------------------------------------------------------------------------------- the live model

    def install(
        self,
        module: nn.Module,
        name: str,
        action_dim: int,
        root: nn.Module | None = None,
        frames_per_block: int = 1,
    ) -> None:
        """Change a live module in place; no value is transferred here.

        Args:
            module: The module.
            name: Its path in the base.
            action_dim: Numbers in an action.
            root: The base, needed where the operation uses more of it than the module.
            frames_per_block: Frames to a block.
        """
        raise NotImplementedError

    def receptive_field(self, module: nn.Module, frames_per_block: int) -> ReceptiveField:
        """Which earlier blocks a site sees. `module` is the site or, for its sizes, the base's module."""
        return ReceptiveField(0)

    def min_frames(self, module: nn.Module) -> int:
        """Frames in the shortest clip that shows all that a site does."""
        return 1

    @property
    def attention_window(self) -> AttentionWindow | None:
        """The frames in view of a (resolved) operation with `ring_states`; None for others."""
        return None

    @property
    def position_period(self) -> int | None:
        """Frames after which positions come again; None: they do not."""
        return None

    def set_action_statistics(
        self, site: nn.Module, mean: Tensor, std: Tensor, stored: Mapping[str, torch.dtype]
    ) -> None:
        """Have a site bring actions to mean 0 and standard deviation 1, in place, where it embeds them itself.

        Args:
            site: The live site.
            mean: (a,) the data's mean.
            std: (a,) its standard deviation.
            stored: The dtypes in which the site's tensors are stored, by relative name: what is trained must be what
                will run.

        Raises:
            V2WError: The numbers do not fit those dtypes.
        """

    # ----------------------------------------------------------------------------------------------- verification

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        """Measure what this operation keeps at one site.

        Args:
            base: The module before surgery, float64, with its real weights.
            site: The module after surgery, the same.
            generator: For random inputs.
            unit: The relative rounding of the dtype in which the weights are stored.
        """
        raise NotImplementedError


def clip_context(b: int, t: int, frames_per_block: int = 1, positions_per_block: int = 1) -> ForwardContext:
    """The context of b clips of t blocks that begin with their first frame."""
    return ForwardContext(
        b=b,
        t=t,
        cursor=torch.zeros((), dtype=torch.int64),
        frames_per_block=frames_per_block,
        positions_per_block=positions_per_block,
    )


def clip_context_like(context: ForwardContext, b: int, t: int) -> ForwardContext:
    """The context of b clips of t blocks that begin with their first frame, of the same blocks and first frames."""
    now = clip_context(b, t, context.frames_per_block, context.positions_per_block)
    now.first_frames = context.first_frames
    return now


def max_abs_diff(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; infinite if any value is not finite, so that NaN never passes for equal."""
    difference = (a - b).abs()
    return float(difference.max()) if bool(torch.isfinite(difference).all()) else float("inf")

"""What every operation has: its data, its map on tensors, its module, its promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from v2w_convert.sites import ForwardContext


@dataclass(frozen=True)
class Invariant:
    """One statement about what an operation keeps at one site, and what was measured.

    sentence   what should hold
    measured   largest absolute difference found
    allowed    largest that rounding explains; 0 where the statement is bitwise
    """

    sentence: str
    measured: float
    allowed: float

    @property
    def ok(self) -> bool:
        return self.measured <= self.allowed  # false for NaN


class Operation(BaseModel):
    """One kind of change, wherever `at` matches.

    The pydantic fields are the plan's grammar. `at` is a pattern of module paths (`plan.pattern`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]
    at: str

    def resolve(self, config: Mapping[str, Any]) -> "Operation":
        """The same, with what is to be worked out from the base's config worked out. Raises ValueError."""
        return self

    def why_not(self, module: nn.Module) -> str | None:
        """Why this operation does not fit `module`; None if it does."""
        raise NotImplementedError

    def transfer_tensor(self, parameter: str, tensor: Tensor) -> Tensor | None:
        """The site's tensor called `parameter` (relative name) after surgery; None: it is kept bit for bit.

        Pure, one tensor at a time, elementwise arithmetic in a fixed order, rounded to the stored dtype at the end, so
        that files and live models get the same bits.
        """
        return None

    def new_tensors(self, module: nn.Module, action_dim: int, n: int = 1) -> dict[str, tuple[int, ...]]:
        """Relative names and shapes of the tensors that this operation adds at a site, n frames to a block."""
        return {}

    def initial_value(self, parameter: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The first value (float32) of an added tensor."""
        raise NotImplementedError

    def install(
        self, module: nn.Module, name: str, action_dim: int, root: nn.Module | None = None, n: int = 1
    ) -> None:
        """Change the live module at path `name` of `root`, in place; no value is transferred here.

        n  frames to a block
        """
        raise NotImplementedError

    def check_invariants(
        self, base: Any, site: Any, generator: torch.Generator, unit: float
    ) -> list[Invariant]:
        """Measure what this operation promises at one site.

        base, site   the module before and after surgery, both float64, with their real weights
        unit         the relative rounding of the dtype in which the weights are stored
        """
        raise NotImplementedError

    def sees_past(self) -> bool:
        """Whether a frame's output at this site must depend on earlier frames."""
        return False


def clip_context(b: int, t: int, n: int = 1, places: int = 1) -> ForwardContext:
    """A pass over t blocks of n frames of clips that begin with their first frame."""
    return ForwardContext(
        b=b, t=t, cursor=torch.zeros((), dtype=torch.int64), frames_per_block=n, positions_per_block=places
    )


def max_abs_diff(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; infinite if any value is not finite, so that NaN never passes for equal."""
    difference = (a - b).abs()
    return float(difference.max()) if bool(torch.isfinite(difference).all()) else float("inf")

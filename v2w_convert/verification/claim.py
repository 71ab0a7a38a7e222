"""Claims: what each one says, what was measured for it, and the words that every claim is built from."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from v2w_convert.verification.report.fixes import FixContext

MODEL_FORWARD = "the model's own forward"  # `where`, if no module inside the model is to blame

Stage = Literal["converted", "trained_actions", "finetuned"]
"""How far the weights have come: as surgery wrote them; the same, with actions that the base was trained with
(Vid2World); finetuned by v2w."""
ALL_STAGES: tuple[Stage, ...] = ("converted", "trained_actions", "finetuned")
BEFORE_FINETUNING: tuple[Stage, ...] = ("converted", "trained_actions")
BEFORE_ACTION_TRAINING: tuple[Stage, ...] = ("converted",)

Status = Literal["holds", "fails", "figure", "not measured"]


@dataclass(frozen=True)
class ClaimSpec:
    """One claim that `v2w verify` can make. It is registered by standing in the `CHECKS` of a module in `claims/`.

    Attributes:
        id: The claim's public name, the same for every model: lower case, words joined by hyphens.
        topic: The section of the report that it stands in, a key of `report.wording.TOPICS`.
        sentence: What it says. A result may carry a more exact sentence, with the model's unit of time or dtype.
        stages: The stages at which it applies; at other stages it is reported as not measured.
        figure: True for a measurement that is neither right nor wrong, such as a distance.
        needs_base: True if it cannot be measured without the base.
        core: True if the model counts as verified only where this was measured: what makes it a world model that is
            true to its base. Where it cannot apply (no base, another stage) it is not asked for.
        fix: Suggests how to fix a model for which it fails, a line for each step. None: name the plan's rule
            that made each of the modules in `where`.
    """

    id: str
    topic: str
    sentence: str
    stages: tuple[Stage, ...] = ALL_STAGES
    figure: bool = False
    needs_base: bool = False
    core: bool = False
    fix: "Fix | None" = None

    def result(
        self, measured: float, *, how: str, where: str = "", allowed: float = 0.0, sentence: str = ""
    ) -> "Claim":
        """Return the claim with its measurement.

        Args:
            measured: How far the model is from the sentence; 0 is perfect. For a figure, the figure.
            how: How it was measured, in the unit of `measured`.
            where: Names of the modules, tensors or files that break it, or of the one that comes closest.
            allowed: The largest `measured` for which it holds; ignored for a figure.
            sentence: A more exact sentence for this model.
        """
        return Claim(self, measured, None if self.figure else allowed, where, how, sentence=sentence)

    def not_measured(self, why: str) -> "Claim":
        """Return the claim without a measurement; `why` completes "not measured: "."""
        return Claim(self, None, None, "", f"{NOT_MEASURED}{why}")

    def out_of_time(self, why: str) -> "Claim":
        """Return the claim without a measurement, for which there was no time."""
        return replace(self.not_measured(why), missing=self.core)

    def count(self, broken: Iterable[str], how: str, sentence: str = "") -> "Claim":
        """Return a claim about many modules, tensors or files: the number of those in `broken`, of which none is allowed."""
        names = list(dict.fromkeys(broken))
        return self.result(float(len(names)), how=how, where=join_names(names), sentence=sentence)

    def count_frames(self, broken: list[str], where: str, how: str, sentence: str = "") -> "Claim":
        """Return a claim about many frames: the number of those in `broken`, of which none is allowed.

        Args:
            broken: Frames that break the claim, such as "frame 3".
            where: The module to blame if there are any.
            how: How it was measured.
            sentence: A more exact sentence for this model.
        """
        how += f"; broken at {join_names(broken)}" if broken else ""
        return self.result(float(len(broken)), how=how, where=where if broken else "", sentence=sentence)


NOT_MEASURED = "not measured: "


@dataclass(frozen=True)
class Claim:
    """One sentence about a converted model, and what was measured.

    Attributes:
        spec: Which claim it is.
        measured: How far the model is from the sentence; 0 is perfect. None: not measured.
        allowed: The largest `measured` for which the claim holds. None for figures and where nothing was measured.
        where: Names of the modules, tensors or files that break it, or of the one that comes closest.
        how: How it was measured, or why it was not.
        fix: Where it fails, how to fix it, a line for each step; "" where that is not known.
        sentence: The sentence; that of `spec` unless a more exact one is given.
        expert: Of which denoiser it is, "high" or "low", where there are two; "": of the whole model.
        missing: True if it is of the core, and there was no time to measure it.
    """

    spec: ClaimSpec
    measured: float | None
    allowed: float | None
    where: str
    how: str
    fix: str = ""
    sentence: str = ""
    expert: str = ""
    missing: bool = False

    def __post_init__(self) -> None:
        assert (self.allowed is None) == (self.measured is None or self.spec.figure), self.spec.id
        object.__setattr__(self, "sentence", self.sentence or self.spec.sentence)

    @property
    def id(self) -> str:
        """The claim's public name."""
        return self.spec.id

    @property
    def status(self) -> Status:
        """What came of it."""
        if self.measured is None:
            return "not measured"
        if self.allowed is None:
            return "figure"
        return "holds" if self.measured <= self.allowed else "fails"  # NaN fails

    @property
    def ok(self) -> bool:
        """False if it fails."""
        return self.status != "fails"

    def of_expert(self, name: str) -> "Claim":
        """Return the claim about one of two denoisers, "high" or "low"; its sentence says so."""
        return replace(self, expert=name, sentence=f"{self.sentence} ({name}-noise expert)")

    def as_json(self) -> dict[str, Any]:
        """Return plain data. A measurement that is not finite, which JSON cannot hold, becomes null."""
        finite = self.measured is not None and math.isfinite(self.measured)
        return {
            "id": self.id,
            "topic": self.spec.topic,
            "sentence": self.sentence,
            "status": self.status,
            "ok": self.ok,
            "core": self.spec.core,
            "missing": self.missing,
            "measured": self.measured if finite else None,
            "allowed": self.allowed,
            "where": self.where,
            "how": self.how,
            "fix": self.fix,
            **({"expert": self.expert} if self.expert else {}),
        }


Fix = Callable[[Claim, "FixContext"], list[str]]


def nan_max(values: Iterable[float]) -> float:
    """Return the largest value, 0 if there are none, NaN if any is NaN (which `max` may pass over)."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)


def join_names(names: Iterable[str], limit: int = 64) -> str:
    """Return `names` in one line: the first `limit`, and how many more there are."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")

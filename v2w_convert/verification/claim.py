"""What `v2w verify` says: sentences, each with a number and the largest number for which it holds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from v2w_convert.verification.catalogue import CATALOGUE

MODEL_FORWARD = "the model's own forward"  # where no module of it is to blame
FIGURES = ("influence", "leak", "distance")  # null until measured


@dataclass(frozen=True)
class Claim:
    """One sentence about a converted model, and what was measured.

    name      what the claim is called, the same for every model: one of `catalogue.CATALOGUE`
    measured  how far the model is from it, 0 for perfect; None: it does not apply here, and holds for nothing
    allowed   the largest `measured` for which it holds; None for a figure, which says how much and not whether: it
              cannot fail
    where     names of the modules, tensors or files that break it, or of the one that comes closest to
    how       how it was measured, or why it was not
    mend      where it fails: what would mend it, a line of the plan if there is one; "" where that cannot be told
    claim     the sentence; the catalogue's unless it is given
    """

    name: str
    measured: float | None
    allowed: float | None
    where: str
    how: str
    mend: str = ""
    claim: str = ""

    def __post_init__(self) -> None:
        about = CATALOGUE[self.name]
        assert (self.allowed is None) == (self.measured is None or about.figure), self.name
        object.__setattr__(self, "claim", self.claim or about.sentence)

    @property
    def ok(self) -> bool:
        # Written so that NaN does not pass.
        return self.measured is None or self.allowed is None or self.measured <= self.allowed

    def as_json(self) -> dict[str, Any]:
        """Plain data; a measurement that is not finite, which JSON cannot hold, becomes null with ok false."""
        finite = self.measured is not None and math.isfinite(self.measured)
        return {
            "name": self.name,
            "claim": self.claim,
            "ok": self.ok,
            "measured": self.measured if finite else None,
            "allowed": self.allowed,
            "where": self.where,
            "how": self.how,
            "mend": self.mend,
        }


def not_measured(name: str, why: str) -> Claim:
    return Claim(name, None, None, "", f"not measured: {why}")


def figure(name: str, measured: float, where: str, how: str) -> Claim:
    """A measurement that is neither right nor wrong, under a name that the catalogue has as a figure."""
    return Claim(name, measured, None, where, how)


def counted(name: str, broken_by: Iterable[str], how: str, claim: str = "") -> Claim:
    """A claim about many modules, tensors or files, measured by the number of those that break it: none may."""
    names = list(dict.fromkeys(broken_by))
    return Claim(name, float(len(names)), 0.0, listed(names), how, claim=claim)


def counted_frames(name: str, frames: list[str], where: str, how: str, claim: str = "") -> Claim:
    """The same about frames; `where` is then the module to blame, if one can be."""
    how += f"; broken at {listed(frames)}" if frames else ""
    return Claim(name, float(len(frames)), 0.0, where if frames else "", how, claim=claim)


def nan_max(values: Iterable[float]) -> float:
    """The largest, 0 of none; NaN if any is NaN, which `max` may pass over, so that it cannot hide behind a number."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)


def listed(names: Iterable[str], most: int = 64) -> str:
    """`names` in one line, the first `most` of them."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass
class VerifyReport:
    """All claims about one converted model, in the order in which they were measured.

    figures  what pictures are drawn of, as plain data: measurements that say how much and not whether
    model    what was measured, by its manifest (`provenance.of_model`)
    run      by which versions, when, and how to do it again (`provenance.of_run`)
    """

    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(FIGURES))
    model: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(claim.ok for claim in self.claims)

    def as_json(self) -> dict[str, Any]:
        """As `docs/verify-report.schema.json` describes it."""
        return {
            "v2w_report": 1,
            "ok": self.ok,
            "not_measured": sum(claim.measured is None for claim in self.claims),
            "claims": [claim.as_json() for claim in self.claims],
            "figures": finite(self.figures),
            "model": self.model,
            "run": self.run,
        }


def finite(data: Any) -> Any:
    """`data` with null for every number that JSON cannot hold."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data

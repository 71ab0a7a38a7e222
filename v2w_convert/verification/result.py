"""The result of `v2w verify`."""

import math
from dataclasses import dataclass, field
from typing import Any

from v2w_convert.verification.claim import Claim

REPORT_VERSION = 3
FAILS, INCOMPLETE = 1, 3  # exit codes
FIGURES = ("influence", "leak", "distance")  # null in a report until they are measured


@dataclass(frozen=True)
class VerifyReport:
    """All claims about one converted model.

    Attributes:
        claims: In the order in which they were measured.
        figures: What the report's pictures show, as plain data: measurements that are neither right nor wrong.
        model: What was measured, from its manifest (`report.provenance.describe_model`).
        run: Versions, date and command (`report.provenance.describe_run`).
    """

    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(FIGURES))
    model: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if no claim fails, and all of the core were measured, as far as they apply."""
        return self.exit_code == 0

    @property
    def missing(self) -> list[str]:
        """Ids of the claims of the core for which there was no time."""
        return list(dict.fromkeys(claim.id for claim in self.claims if claim.missing))

    @property
    def exit_code(self) -> int:
        """1 if a claim fails; else 3 if there was no time for a claim of the core; else 0."""
        if not all(claim.ok for claim in self.claims):
            return FAILS
        return INCOMPLETE if self.missing else 0

    def as_json(self) -> dict[str, Any]:
        """Return plain data, as `docs/schemas/verify.schema.json` describes it."""
        return {
            "v2w_report": REPORT_VERSION,
            "ok": self.ok,
            "missing": self.missing,
            "not_measured": sum(claim.measured is None for claim in self.claims),
            "claims": [claim.as_json() for claim in self.claims],
            "figures": finite(self.figures),
            "model": self.model,
            "run": self.run,
        }


def finite(data: Any) -> Any:
    """Return `data` with null for every number that JSON cannot hold."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data

"""What `draft_plan` returns. Importing this module is cheap: neither torch nor diffusers."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class PlanResult:
    """A plan for a base: the shipped one that fits, or a draft for a class that none is shipped for.

    Attributes:
        base: The folder or file that the plan is for.
        plan: Name of the plan.
        class_name: Class of the denoiser that the plan is for.
        text: The plan, as YAML.
        output: The file that was written; None if only the text was asked for.
        drafted: The plan was drafted by measuring the model, since none is shipped for its class.
        site_counts: Draft: operation and number of modules of the model that it would change.
        identity_gap: Draft: difference between base and folded model with every operation in its
            bidirectional form, relative to the largest value, on a small configuration; None if it could
            not be measured.
        holds: Draft: the identity holds, and every mixing site has an operation.
        summary: Draft: what was measured, in sentences.
        open_questions: Draft: what could not be settled, in sentences.
    """

    base: Path
    plan: str
    class_name: str
    text: str
    output: Path | None = None
    drafted: bool = False
    site_counts: dict[str, int] = field(default_factory=dict)
    identity_gap: float | None = None
    holds: bool | None = None
    summary: list[str] = field(default_factory=list)
    open_questions: list[str] = field(default_factory=list)

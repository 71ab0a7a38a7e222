"""A check: some claims that are measured together."""

from collections.abc import Callable
from dataclasses import dataclass

from v2w_convert.verification.claim import Claim, ClaimSpec, Stage
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import NO_COST, Cost, Phase

NEEDS_BASE = "it needs the base (--base)"
WRONG_STAGE: dict[Stage, str] = {
    "converted": "the model is not finetuned",
    "trained_actions": "the base was trained with actions",
    "finetuned": "finetuning has changed the weights",
}


def always(context: VerifyContext) -> bool:
    """Return True: the check is part of every verification."""
    return True


@dataclass(frozen=True)
class Check:
    """Claims that are measured together.

    Attributes:
        label: What is measured, for the progress display.
        specs: The claims; none if it only measures a figure or records something for later checks.
        phase: The state of the models that it needs.
        measure: Returns the measured claims.
        cost: What it takes, or a function that works it out.
        applies: Whether it is part of this verification; one claim may have different checks for different models.
        not_if_large: What is not tried on a large model, in words; the claims then say so.
        whole: True for what is measured once for a folder, not for each of its denoisers.
    """

    label: str
    specs: tuple[ClaimSpec, ...]
    phase: Phase
    measure: Callable[[VerifyContext], list[Claim]]
    cost: Cost | Callable[[VerifyContext], Cost] = NO_COST
    applies: Callable[[VerifyContext], bool] = always
    not_if_large: str = ""
    whole: bool = False

    def is_part_of(self, context: VerifyContext) -> bool:
        """Return whether it is measured in `context`."""
        return self.applies(context) and context.scope in ("all", "whole" if self.whole else "expert")

    def cost_of(self, context: VerifyContext) -> Cost:
        """Return what it takes for this model."""
        return self.cost(context) if callable(self.cost) else self.cost

    def why_not(self, context: VerifyContext) -> str | None:
        """Return why its claims cannot be measured for this model; None if they can."""
        for spec in self.specs:
            if context.stage not in spec.stages:
                return WRONG_STAGE[context.stage]
            if spec.needs_base and context.origin is None:
                return NEEDS_BASE
        return None

"""Run check after check, as long as there is time. A check that raises fails its claims."""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace

from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.budget import Estimate, OutOfTime, release_freed_memory
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.phases import Cost, Phase


class Runner:
    """Runs the checks of one verification, phase by phase.

    Attributes:
        checks: Those that apply to this model.
        unmeasured: Ids of the claims that the budget did not allow.
        took: Seconds of each check that was begun, by its label, with what it had to open.
        estimate: What a pass and a read take; None until that is known.
    """

    def __init__(self, checks: Iterable[Check], context: VerifyContext, progress: Progress = no_progress):
        """Select the checks that apply.

        Args:
            checks: All checks that there are.
            context: What they measure.
            progress: Called before each check.
        """
        self.context, self.progress = context, progress
        self.checks = [check for check in checks if check.is_part_of(context)]
        self.unmeasured: list[str] = []
        self.took: dict[str, float] = {}
        self.estimate: Estimate | None = None
        self._measurable = [check for check in self.checks if check.why_not(context) is None]
        self._begun: list[Phase] = []
        self._done = 0

    def run_phase(self, phase: Phase) -> list[Claim]:
        """Return the claims of a phase. Its models are opened only if there is time for at least one of its checks."""
        self.context.budget.share = phase.until
        with exact() if phase.exact else nullcontext():
            checks = [check for check in self.checks if check.phase is phase]
            return [claim for check in checks for claim in self._run(check)]

    def finish(self) -> None:
        """Report that all checks are done."""
        total = len(self._measurable)
        self.progress(ProgressEvent("verify", total, total, seconds_left=0.0))

    def seconds(self, done: int = 0) -> float:
        """Return the estimated time, in seconds, of all checks but the first `done`, and of the phases' beginnings."""
        assert self.estimate is not None
        left = self._measurable[done:]
        costs = [_in_float64(check.phase, check.cost_of(self.context)) for check in left]
        phases = {check.phase.name: check.phase for check in left}.values()
        costs += [phase.cost for phase in phases if phase not in self._begun]
        return sum(
            self.estimate.pass_seconds * cost.passes + self.estimate.read_seconds * cost.reads
            for cost in costs
        )

    def _run(self, check: Check) -> list[Claim]:
        why = check.why_not(self.context)
        if why is not None:
            return [spec.not_measured(why) for spec in check.specs]
        left = None if self.estimate is None else self.seconds(self._done)
        self.progress(
            ProgressEvent("verify", self._done, len(self._measurable), check.label, seconds_left=left)
        )
        self._done += 1
        begun, start = False, self.context.budget.seconds
        try:
            if check.phase.budgeted:
                self.context.budget.check()
            self._begin(check.phase)
            begun = True
            return [self._noted(check, claim) for claim in check.measure(self.context)]
        except OutOfTime:
            self.unmeasured += [spec.id for spec in check.specs]
            return [spec.out_of_time(self.context.budget.why) for spec in check.specs]
        except MemoryError:
            raise
        except Exception as error:  # no claim holds for a model that cannot be run
            if not begun or not check.specs or not check.phase.budgeted:
                raise
            return [_failed(spec, error) for spec in check.specs]
        finally:
            release_freed_memory()
            self.took[check.label] = round(self.context.budget.seconds - start, 1)

    def _noted(self, check: Check, claim: Claim) -> Claim:
        if not (self.context.large and check.not_if_large and claim.measured is not None):
            return claim
        return replace(claim, how=f"{claim.how}; not tried on so large a model: {check.not_if_large}")

    def _begin(self, phase: Phase) -> None:
        if phase in self._begun:
            return
        if phase.after is not None:
            self._begin(phase.after)
        if phase.begin is not None:
            phase.begin(self.context)
        self._begun.append(phase)


def _in_float64(phase: Phase, cost: Cost) -> Cost:
    """Passes are counted as those in float64, which take twice as long as those in float32."""
    return cost if phase.exact else cost._replace(passes=cost.passes / 2)


def _failed(spec: ClaimSpec, error: Exception) -> Claim:
    how = f"the model cannot be run: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return spec.not_measured(how) if spec.figure else spec.result(math.inf, how=how)

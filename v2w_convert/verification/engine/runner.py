"""Measurement after measurement, as long as there is time; one that fails, fails its claims."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.budget import OutOfTime, give_back
from v2w_convert.verification.catalogue import CATALOGUE
from v2w_convert.verification.claim import Claim, not_measured
from v2w_convert.verification.engine.exact import exact

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """Some claims that are measured together.

    what     for the progress
    claims   their names
    measure  called with a bench
    passes   how often two clips go through a model for it, about
    reads    how often a model's weights are read for it
    """

    what: str
    claims: tuple[str, ...]
    measure: Callable[[VerifyContext], list[Claim]]
    passes: float = 0.0
    reads: float = 0.0


@dataclass(frozen=True)
class Phase:
    """Parts that need the same models.

    begin    opens the models
    until    the share of the budget at which it must be over
    exactly  whether everything, tables of positions too, is computed in float64
    """

    parts: list[Check]
    begin: Callable[[VerifyContext], None] = lambda bench: None
    until: float = 1.0
    exactly: bool = False


class Runner:
    """Part after part, as long as the budget lasts."""

    def __init__(self, progress: Progress, total: int):
        self.progress, self.total = progress, total
        self.number = 0
        self.unmeasured: list[str] = []  # claims that the budget did not allow

    def through(self, phase: Phase, bench: VerifyContext) -> list[Claim]:
        """The claims of a phase. Models are opened only if there is time for any of them."""
        bench.time.share = phase.until
        with exact() if phase.exactly else nullcontext():
            return self._measured(phase, bench)

    def _measured(self, phase: Phase, bench: VerifyContext) -> list[Claim]:
        time = bench.time
        claims: list[Claim] = []
        begun = False
        for part in phase.parts:
            self.number += 1
            try:
                time.check()
                self.progress(f"{part.what} ({self.number} of {self.total})")
                if not begun:
                    phase.begin(bench)
                    begun = True
                claims += part.measure(bench)
            except OutOfTime:
                self.unmeasured += part.claims
                claims += [not_measured(name, time.why) for name in part.claims]
            except MemoryError:
                raise
            except Exception as error:  # a model that cannot be run is none of which a claim holds
                if not begun or not part.claims:
                    raise
                how = f"the model cannot be run: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
                claims += [_broke_off(name, how) for name in part.claims]
            give_back()
        return claims


def _broke_off(name: str, how: str) -> Claim:
    if CATALOGUE[name].figure:
        return not_measured(name, how)
    return Claim(name, math.inf, 0.0, "", how)

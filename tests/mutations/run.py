"""Break a model, let `verify` judge it, and judge `verify`."""

import gc
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tests.mutations.faults import broken
from tests.mutations.folders import copied
from tests.mutations.mutation import Mutation
from tests.mutations.suite import model_of, suite
from v2w_convert.verification import run
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.phases import HEADERS


@dataclass(frozen=True)
class Verdict:
    """
    claim     the expected claim
    caught    whether it failed; for an unbroken model, whether all claims hold
    by        the claims that failed, of those that were measured, and what each of them names
    named     what the expected claim names
    right     whether that is what was broken
    brief     whether it was measured as a large model is
    seconds   that `verify` took
    """

    kind: str
    model: str
    site: str
    claim: str
    caught: bool
    by: dict[str, str]
    named: str
    right: bool
    brief: bool
    seconds: float

    @property
    def ok(self) -> bool:
        return self.caught and self.right

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "seconds"}


def judge(mutation: Mutation, folder: Path, brief: bool = False) -> Verdict:
    """`folder` holds the mutation's model as `Model.make` leaves it; `brief` measures it as a large model is measured.

    Of an unbroken model every claim is measured; of a broken one, the claim that must catch it, and those that are measured
    with it.
    """
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as other:
        out = folder / "out"
        if mutation.edit is not None:
            out = copied(out, Path(other) / "out", mutation.edit)
        with ExitStack() as changed:
            changed.enter_context(patch.object(run, "CHECKS", _checks(mutation.claim)))
            if brief:
                changed.enter_context(patch.object(run, "LARGE_MODEL", 0))
            if mutation.fault:
                changed.enter_context(broken(mutation.fault))
            for of, methods in (mutation.program or {}).items():
                changed.enter_context(patch.multiple(of, **methods))
            try:
                claims = run.verify(out, folder / "base").claims
                failing = [claim for claim in claims if not claim.ok or _named(claim, mutation)]
            except Exception as error:  # a model that verify cannot run at all does not count as caught
                failing = []
                refused = f"{type(error).__name__}: {error}"[:300]
            else:
                refused = ""
    return verdict(mutation, failing, refused, brief, time.monotonic() - begin)


def _checks(claim: str) -> tuple[Check, ...]:
    """What `verify` must measure for this claim; all if there is none."""
    return tuple(
        check
        for check in run.CHECKS
        if not claim
        or check.phase is HEADERS
        or not check.specs  # recorded for others
        or claim in [spec.id for spec in check.specs]
    )


def _named(claim: Claim, mutation: Mutation) -> bool:
    """Whether it is the figure that is expected to name what was broken, and it names something."""
    return claim.id == mutation.claim and claim.status == "figure" and bool(claim.where)


def verdict(mutation: Mutation, failing: list[Claim], refused: str, brief: bool, seconds: float) -> Verdict:
    by: dict[str, str] = {}
    for claim in failing:
        of = f"{claim.expert}: " if claim.expert else ""
        names = ", ".join(of + name for name in claim.where.split(", ") if name)
        by[claim.id] = ", ".join(filter(None, (by.get(claim.id), names)))
    named = by.get(mutation.claim, "")
    if refused:
        by["refused"] = refused
    return Verdict(
        mutation.kind,
        mutation.model,
        mutation.site,
        mutation.claim,
        mutation.claim in by if mutation.claim else not by,
        by,
        named,
        set(filter(None, named.split(", "))) == mutation.blamed,
        brief,
        seconds,
    )


def in_modes(mutations: list[Mutation], modes: str) -> list[tuple[Mutation, bool]]:
    """Each mutation with whether it is measured in the brief mode, as far as that can see it.

    `modes` is "normal", "brief", "both", or "turns": one in the normal mode, the next in the brief one.
    """
    found: list[tuple[Mutation, bool]] = []
    for number, mutation in enumerate(mutations):
        brief = mutation.brief and (modes in ("brief", "both") or (modes == "turns" and number % 2 == 1))
        normal = modes in ("normal", "both") or (modes == "turns" and not brief)
        found += [(mutation, False)] * normal + [(mutation, True)] * brief
    return found


def judged(mutations: list[tuple[Mutation, bool]], folder: Path, jobs: int) -> Iterator[Verdict]:
    """All of them, each in the brief mode or not; the models are made in `folder` once."""
    torch.set_num_threads(1)
    everything = suite()
    for name, mutation in {m.model: m for m, _ in mutations}.items():
        model_of(mutation).make(folder / name)
    numbers = {str(mutation): number for number, mutation in enumerate(everything)}
    tasks = [(numbers[str(mutation)], folder / mutation.model, brief) for mutation, brief in mutations]
    if jobs == 1:
        yield from map(_judge, tasks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork"), initializer=_begin) as pool:
        yield from pool.map(_judge, tasks)


def _begin() -> None:
    gc.freeze()  # `verify` collects garbage often: skip what the libraries hold
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def _judge(task: tuple[int, Path, bool]) -> Verdict:
    number, folder, brief = task
    return judge(suite()[number], folder, brief)

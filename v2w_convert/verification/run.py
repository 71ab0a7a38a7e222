"""`v2w verify`: every claim about a converted model, measured on the user's own weights."""

from pathlib import Path

import torch

from v2w_convert.checkpoint.source import Source, open_source
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError, error_context
from v2w_convert.plan.coverage import uncovered_sites
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.load import open_converted
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.verification import parts, tensors
from v2w_convert.verification.bench import VerifyContext, with_base, with_stored, with_training, with_world
from v2w_convert.verification.budget import Budget, Estimate, estimate
from v2w_convert.verification.claims import Claim, VerifyReport, not_measured
from v2w_convert.verification.clips import read_clips, size_of
from v2w_convert.verification.course import Phase, Progress, Runner
from v2w_convert.verification.exact import exact
from v2w_convert.verification.mend import mended
from v2w_convert.verification.models import open_world
from v2w_convert.verification.provenance import of_model, of_run
from v2w_convert.verification.publish import publish
from v2w_convert.verification.weights import numbers

UNTIL_BASE, UNTIL_WORLD = 0.4, 0.9  # shares of a budget at which the base and the world model must be done
GB = 1e9
LARGE = 500_000_000  # numbers in the weights


@torch.no_grad()
def verify(
    converted: Path,
    base: Path | None = None,
    *,
    clips: Path | None = None,
    camera: str | None = None,
    report: Path | None = None,
    progress: Progress = lambda what: None,
    say: Progress = lambda what: None,
    memory: float | None = None,
    budget: float | None = None,
) -> VerifyReport:
    """Measure every claim at the model's stage. Claims that need the base are left out without it, and say so.

    clips     a data set: the distance is measured on clips of it, not on what is drawn; it needs the base
    camera    which of its cameras, where there are several
    report    a folder, made if need be, for report.html, report.json, summary.md and pictures (`publish`)
    progress  called with a few words before each part
    say       called with what it will take, in a sentence, before anything is measured
    memory    GB that may be used; None: what the machine has left. Weights that do not fit stay on disk, and are
              read at every use
    budget    minutes; what they do not suffice for is reported as not measured. None: any number

    Where the files do not hold the tensors that the plan makes, no model can be run: the report ends there. Raises
    V2WError if a folder cannot be read as what it should be.
    """
    time = Budget(budget)
    manifest, source, resolved = open_converted(converted)
    with error_context(converted):
        uncovered_sites(
            resolved.plan
        )  # a call that does not work is refused here, not met in every measurement
    origin = None if base is None else open_source(base)
    if origin is not None and origin.converted:
        raise V2WError(
            f"verify against the base {base}", "a converted model", "the model that it was made of"
        )
    if clips is not None and base is None:
        raise V2WError(f"measure the distance on clips of {clips}", "no base", "--base")
    if clips is not None:
        open_dataset(clips, camera=camera)
    progress("files")
    result = VerifyReport(_headers(source, origin, resolved, manifest))
    result.model, result.run = of_model(manifest, resolved), of_run(converted, base, clips, camera, report)
    if not result.ok:
        if report is not None:
            _make(report)
        result.claims += parts.hashed(source, origin, manifest)
        return _written(result, resolved, report)

    with exact():
        world = open_world(converted, room=0)
        chosen = None if clips is None else read_clips(clips, camera, converted, world)
        if report is not None:  # when nothing that was given can be refused any more
            _make(report)
        room = None if memory is None else memory * GB
        expected = estimate(world, source, room, time.clock, size_of(chosen, world))
    large = numbers(source.tensors) > LARGE
    bench = VerifyContext(
        converted, source, origin, resolved, manifest, world, time, expected.room, clips=chosen, large=large
    )
    pictured = report is not None and not (large and budget is not None)  # what decides comes first
    phases = _phases(bench, pictured)
    every = [part for phase in phases for part in phase.parts]
    seconds = sum(expected.passing * part.passes + expected.reading * part.reads for part in every)
    say(_announced(seconds, expected, budget))

    course = Runner(progress, len(every))
    for phase in phases:
        result.claims += course.through(phase, bench)
    result.figures |= bench.figures
    result.figures["budget"] = {
        "minutes": budget,
        "estimated_seconds": round(seconds, 1),
        "estimated_memory": round(expected.memory),
        "estimated_from": expected.basis,
        "weights_held": round(expected.held, 3),
        "seconds": round(time.seconds, 1),
        "unmeasured": course.unmeasured,
    }
    return _written(result, resolved, report)


def _headers(
    source: Source, origin: Source | None, resolved: ResolvedPlan, manifest: Manifest
) -> list[Claim]:
    if origin is None:
        base = not_measured("base-tensors-complete", parts.NEEDS_BASE)
    else:
        base = tensors.base_complete(origin, resolved)
    return [tensors.complete(source, resolved, manifest), base]


def _phases(bench: VerifyContext, pictured: bool) -> list[Phase]:
    if bench.origin is None:
        of_base = Phase(parts.without_base())
    else:
        of_base = Phase(parts.base_parts(bench, pictured), with_base, UNTIL_BASE, exactly=True)
    return [
        Phase(parts.file_parts()),
        of_base,
        Phase(parts.world_parts(bench, pictured), with_world, UNTIL_WORLD, exactly=True),
        # Not `exact`: tables that were made exactly are not the stored model's.
        Phase(parts.stored_parts(), with_stored),
        Phase(parts.training_parts(), with_training),
    ]


def _announced(seconds: float, expected: Estimate, budget: float | None) -> str:
    most = "" if budget is None else f", of which the budget allows {budget:g}"
    minutes = max(1, round(seconds / 60))
    return (
        f"verify will take about {minutes} {'minute' if minutes == 1 else 'minutes'}{most} and up to {expected.memory / GB:.1f} GB of memory "
        f"(from {expected.basis})"
    )


def _make(report: Path) -> None:
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise V2WError(f"write a report to {report}", str(error), "a folder that can be written") from None


def _written(result: VerifyReport, resolved: ResolvedPlan, report: Path | None) -> VerifyReport:
    result.claims = mended(result.claims, resolved)
    if report is not None:
        publish(result.as_json(), report)
    return result

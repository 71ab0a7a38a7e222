"""`v2w verify`: every claim about a converted model, measured on the user's own weights."""

from collections.abc import Callable
from pathlib import Path

import torch

from v2w_convert.checkpoint.open import open_source
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError, error_context
from v2w_convert.plan.coverage import uncovered_sites
from v2w_convert.progress import Progress, no_progress
from v2w_convert.surgery.load import open_converted
from v2w_convert.verification.claims import CHECKS
from v2w_convert.verification.engine.budget import Budget, Estimate, estimate
from v2w_convert.verification.engine.clips import read_clips, relative_size
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.models import open_world
from v2w_convert.verification.engine.phases import HASHES, HEADERS, PHASES
from v2w_convert.verification.engine.runner import Runner
from v2w_convert.verification.engine.weights import count_numbers
from v2w_convert.verification.report.fixes import add_fixes
from v2w_convert.verification.report.provenance import describe_model, describe_run
from v2w_convert.verification.report.publish import publish
from v2w_convert.verification.result import FIGURES, VerifyReport
from v2w_convert.verification.settings import VerifySettings

GB = 1e9
LARGE_MODEL = 500_000_000  # numbers in the weights


@torch.no_grad()
def verify(
    converted: Path,
    base: Path | None = None,
    settings: VerifySettings = VerifySettings(),  # noqa: B008 (frozen)
    *,
    report: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> VerifyReport:
    """Measure every claim that applies to the model.

    If the files do not hold the tensors that the plan describes, no model can be run, and only the files are checked.

    Args:
        converted: A converted folder, or a run folder of finetuning.
        base: What it was converted from. Without it, the claims that need it are reported as not measured.
        settings: What verification may use, and what it measures on.
        report: A folder, created if necessary, for report.html, report.json, summary.md and pictures.
        progress: Called before each check.
        say: Called with one sentence about time and memory before the models are measured.

    Raises:
        V2WError: If a folder cannot be read as what it should be.
    """
    context = _open(converted, base, settings, report)
    runner = Runner(CHECKS, context, progress or no_progress)
    claims = runner.run_phase(HEADERS)
    if all(claim.ok for claim in claims):
        _prepare(context, runner, settings, report, say)
        for phase in PHASES[1:]:
            claims += runner.run_phase(phase)
        runner.finish()
        context.figures["budget"] |= {
            "seconds": round(context.budget.seconds, 1),
            "unmeasured": runner.unmeasured,
        }
    else:
        if report is not None:
            _make_folder(report)
        claims += runner.run_phase(HASHES)
    result = VerifyReport(
        add_fixes(claims, context.resolved),
        dict.fromkeys(FIGURES) | context.figures,
        describe_model(context.manifest, context.resolved),
        describe_run(converted, base, settings, report),
    )
    if report is not None:
        publish(result.as_json(), report)
    return result


def _open(converted: Path, base: Path | None, settings: VerifySettings, report: Path | None) -> VerifyContext:
    """Read the folders' metadata, and refuse what cannot be measured."""
    budget = Budget(settings.budget)
    manifest, source, resolved = open_converted(converted)
    with error_context(converted):
        uncovered_sites(resolved.plan)  # a call that fails is refused here, not in every check
    origin = None if base is None else open_source(base)
    if origin is not None and origin.converted:
        raise V2WError(
            f"verify against the base {base}", "a converted model", "the model that it was converted from"
        )
    if settings.clips is not None:
        if base is None:
            raise V2WError(f"measure the distance on clips of {settings.clips}", "no base", "--base")
        open_dataset(settings.clips, camera=settings.camera)
    large = count_numbers(source.tensors) > LARGE_MODEL
    claims_first = large and settings.budget is not None  # pictures only if the time is not needed for claims
    return VerifyContext(
        converted,
        source,
        origin,
        resolved,
        manifest,
        budget,
        large=large,
        draw_influence=report is not None and not claims_first,
    )


def _prepare(
    context: VerifyContext,
    runner: Runner,
    settings: VerifySettings,
    report: Path | None,
    say: Callable[[str], None],
) -> None:
    """Open the world model with its weights on disk, read the clips, and estimate time and memory."""
    with exact():
        context.loaded_world = world = open_world(context.model, memory=0)
        if settings.clips is not None:
            context.clips = read_clips(settings.clips, settings.camera, context.converted, world)
        if report is not None:  # from here on, nothing that was given can be refused
            _make_folder(report)
        memory = None if settings.memory is None else settings.memory * GB
        size = relative_size(context.clips, world)
        expected = estimate(world, context.source, memory, context.budget.clock, size)
    context.weight_memory = expected.weight_memory
    runner.estimate = expected
    seconds = runner.seconds()
    context.figures["budget"] = {
        "minutes": settings.budget,
        "estimated_seconds": round(seconds, 1),
        "estimated_memory": round(expected.memory),
        "estimated_from": expected.basis,
        "weights_held": round(expected.held_share, 3),
    }
    say(_announcement(seconds, expected, settings.budget))


def _announcement(seconds: float, expected: Estimate, budget: float | None) -> str:
    limit = "" if budget is None else f", of which the budget allows {budget:g}"
    minutes = max(1, round(seconds / 60))
    return (
        f"verify will take about {minutes} {'minute' if minutes == 1 else 'minutes'}{limit} and up to "
        f"{expected.memory / GB:.1f} GB of memory (from {expected.basis})"
    )


def _make_folder(report: Path) -> None:
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise V2WError(f"write a report to {report}", str(error), "a folder that can be written") from None

"""`v2w verify`: every claim about a converted model, measured on the user's own weights."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import Source
from v2w_convert.data import open_dataset
from v2w_convert.errors import V2WError, error_context
from v2w_convert.plan.coverage import uncovered_sites
from v2w_convert.progress import Progress, no_progress
from v2w_convert.surgery.action_statistics import recorded_actions
from v2w_convert.surgery.load import Converted, open_converted
from v2w_convert.verification.claim import Claim
from v2w_convert.verification.claims import CHECKS
from v2w_convert.verification.engine.budget import Budget, Estimate, estimate
from v2w_convert.verification.engine.clips import read_clips, relative_size
from v2w_convert.verification.engine.context import Scope, VerifyContext
from v2w_convert.verification.engine.exact import exact
from v2w_convert.verification.engine.models import open_world
from v2w_convert.verification.engine.phases import HASHES, HEADERS, PHASES, free_models
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
    model, origin = _open(converted, base, settings)
    clock = Budget(settings.budget)
    contexts = _contexts(converted, model, origin, clock, report is not None)
    claims: list[Claim] = []
    for number, (name, context) in enumerate(contexts.items()):
        if context.scope != "all":
            context.budget = clock.portion(len(contexts) - number)
        if context.scope == "whole":
            context.complete = all(other.complete for other in contexts.values())
        found = _measure(
            context, settings, report, progress or no_progress, partial(_say, say, name, context)
        )
        claims += [claim.of_expert(name) for claim in found] if context.scope == "expert" else found
        free_models(context)
    result = VerifyReport(
        claims,
        _figures(contexts, clock),
        describe_model(model.manifest, model.resolved),
        describe_run(converted, base, settings, report),
    )
    if report is not None:
        try:
            publish(result.as_json(), report)
        except V2WError:
            with suppress(OSError):  # a folder that holds something stays
                report.rmdir()
            raise
    return result


def _open(converted: Path, base: Path | None, settings: VerifySettings) -> tuple[Converted, Source | None]:
    """Read the folders' metadata, and refuse what cannot be measured."""
    model = open_converted(converted)
    with error_context(converted):
        uncovered_sites(model.resolved.plan)  # a call that fails is refused here, not in every check
    recorded_actions(model.manifest)  # refused here, not in one check
    origin = None if base is None else open_source(base, model.manifest.choice)
    if origin is not None:
        asked = f"verify against the base {base}"
        wanted = "the model that it was converted from"
        if origin.converted:
            raise V2WError(asked, "a converted model", wanted)
        if origin.experts.keys() != model.experts.keys():
            found = (
                f"{len(origin.experts)} denoisers in the base, {len(model.experts)} in the converted model"
            )
            raise V2WError(asked, found, wanted)
    if settings.clips is not None:
        if base is None:
            raise V2WError(f"measure the distance on clips of {settings.clips}", "no base", "--base")
        open_dataset(settings.clips, settings, model.manifest.view)
    return model, origin


def _contexts(
    converted: Path, model: Converted, origin: Source | None, budget: Budget, report: bool
) -> dict[str, VerifyContext]:
    """What is measured, one after the other: a model with one denoiser; or "high", "low", and "" what is of both."""

    def context(part: Converted, base: Source | None, scope: Scope) -> VerifyContext:
        large = count_numbers(part.source.tensors) > LARGE_MODEL
        # Pictures only if the time is not needed for claims.
        draw = report and not (large and budget.minutes is not None)
        return VerifyContext(
            converted,
            part.source,
            base,
            part.resolved,
            part.manifest,
            budget,
            large=large,
            draw_influence=draw,
            scope=scope,
        )

    parts, bases = model.experts, {} if origin is None else origin.experts
    if len(parts) == 1:
        return {"": context(model, origin, "all")}
    return {name: context(part, bases.get(name), "expert") for name, part in parts.items()} | {
        "": context(model, origin, "whole")
    }


def _measure(
    context: VerifyContext,
    settings: VerifySettings,
    report: Path | None,
    progress: Progress,
    say: Callable[[str], None],
) -> list[Claim]:
    """Return the claims about one denoiser, or about what is of both."""
    runner = Runner(CHECKS, context, progress)
    claims = runner.run_phase(HEADERS)
    context.complete = context.complete and all(claim.ok for claim in claims)
    if context.complete:
        _prepare(context, runner, settings, report, say)
        for phase in PHASES[1:]:
            claims += runner.run_phase(phase)
        runner.finish()
        context.figures["budget"] |= {
            "seconds": round(context.budget.seconds, 1),
            "seconds_by_check": runner.took,
            "unmeasured": runner.unmeasured,
        }
    else:
        if report is not None:
            _make_folder(report)
        claims += runner.run_phase(HASHES)
    return add_fixes(claims, context.resolved)


def _figures(contexts: dict[str, VerifyContext], clock: Budget) -> dict[str, Any]:
    """The report's figures; of two denoisers, those of the second under "low_noise"."""
    first, *others = [context.figures for context in contexts.values()]
    figures = dict.fromkeys(FIGURES) | first
    if others:
        low, whole = others
        figures["low_noise"] = dict.fromkeys(FIGURES) | low
        figures["autoencoder"] = whole.get("autoencoder")
        if "budget" in first:
            figures["budget"] = first["budget"] | {"seconds": round(clock.seconds, 1)}
    return figures


def _say(say: Callable[[str], None], name: str, context: VerifyContext, line: str) -> None:
    of = {"all": "", "expert": f"the {name}-noise expert: ", "whole": "what is of both experts: "}
    say(of[context.scope] + line)


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
            context.clips = read_clips(settings.clips, settings, context.converted, world)
        if report is not None:  # from here on, nothing that was given can be refused
            _make_folder(report)
        memory = None if settings.memory is None else settings.memory * GB
        size = relative_size(context.clips, world)
        expected = estimate(world, context.source, memory, context.budget.clock, size)
    context.weight_memory, context.world_memory = expected.weight_memory, expected.world_memory
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

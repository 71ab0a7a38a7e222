"""`v2w verify`: every claim about a converted model, measured on the user's own weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2w_convert.checkpoint.source import Source, open_source
from v2w_convert.errors import V2WError, about
from v2w_convert.plan.probe import wake
from v2w_convert.plan.resolve import Resolved, uncovered
from v2w_convert.surgery.convert import stored_dtype
from v2w_convert.surgery.load import open_converted
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.verify import (
    actions,
    causality,
    coverage,
    files,
    gradient,
    identity,
    past,
    promises,
    tensors,
)
from v2w_convert.verify.claims import Claim, Report, not_measured
from v2w_convert.verify.exact import exact
from v2w_convert.verify.inputs import base_call, draw, enough_frames, uniform
from v2w_convert.verify.models import Models, open_models
from v2w_convert.verify.module import influence
from v2w_convert.verify.provenance import of_model, of_run
from v2w_convert.verify.publish import publish
from v2w_convert.verify.streaming import streaming
from v2w_convert.world.model import World

Progress = Callable[[str], None]
NEEDS_BASE = "it needs the base (--base)"
FINETUNED = "finetuning has changed the weights"


@torch.no_grad()
def verify(
    converted: Path,
    base: Path | None = None,
    *,
    report: Path | None = None,
    progress: Progress = lambda what: None,
) -> Report:
    """Measure every claim at the model's stage. Claims that need the base are left out without it, and say so.

    report    a folder, made if need be, for report.html, report.json, summary.md and pictures (`publish`)
    progress  called with a few words before each part

    Needs memory for both models in float64. Where the files do not hold the tensors that the plan makes, no
    model can be run: the report ends there. Raises V2WError if a folder cannot be read as what it should be.
    """
    manifest, source, resolved = open_converted(converted)
    with about(converted):
        uncovered(
            resolved.plan
        )  # a plan whose call does not work is refused here, not met in every measurement
    origin = None if base is None else open_source(base)
    if origin is not None and origin.converted:
        raise V2WError(
            f"verify against the base {base}", "a converted model", "the model that it was made of"
        )
    if report is not None:
        _make(report)

    progress("files")
    result = Report(_headers(source, origin, resolved, manifest))
    result.model, result.run = of_model(manifest, resolved), of_run(converted, base, report)
    runnable = result.ok
    result.claims += _files(source, origin, manifest)
    if runnable:
        result.claims += _tensors(source, origin, resolved, manifest)
        stored = stored_dtype(source)
        with exact():
            models = open_models(converted, base)
            if report is not None:
                progress("influence of every frame on every other")
                result.figures["influence"] = _influences(models)
            leak = result.figures["leak"] = {"base": None, "world": {}}
            result.claims += _real(models, manifest, torch.finfo(stored).eps, progress)
            wake(models.world.base)
            if models.base is not None:
                result.claims += _base(models.base, models.world, leak, progress)
            result.claims += _woken(models.world, manifest, leak, progress)
            del models
        if origin is None:
            progress("coverage")
            result.claims += _without_base(resolved)
        result.claims += _stored(converted, stored, progress)
    if report is not None:
        publish(result.as_json(), report)
    return result


def _headers(source: Source, origin: Source | None, resolved: Resolved, manifest: Manifest) -> list[Claim]:
    if origin is None:
        base = not_measured("base-tensors-complete", tensors.BASE_COMPLETE, NEEDS_BASE)
    else:
        base = tensors.base_complete(origin, resolved)
    return [tensors.complete(source, resolved, manifest), base]


def _files(source: Source, origin: Source | None, manifest: Manifest) -> list[Claim]:
    claims = [files.result_files(source, manifest)]
    if origin is None:
        return [
            *claims,
            not_measured("base-files", files.SOURCE, NEEDS_BASE),
            not_measured("config", files.CONFIG, NEEDS_BASE),
        ]
    return [*claims, files.source_files(origin, manifest), files.same_config(origin, source)]


def _tensors(source: Source, origin: Source | None, resolved: Resolved, manifest: Manifest) -> list[Claim]:
    if origin is None or manifest.finetuning is not None:
        why = FINETUNED if manifest.finetuning is not None else NEEDS_BASE
        return [
            not_measured(f"tensors-{fate}", sentence, why) for fate, sentence in tensors.SENTENCES.items()
        ]
    return tensors.surgical(origin, source, resolved, manifest)


def _real(models: Models, manifest: Manifest, unit: float, progress: Progress) -> list[Claim]:
    """Claims about the weights as they are."""
    claims = []
    if manifest.finetuning is not None:
        claims.append(not_measured("promises", promises.CLAIM, FINETUNED))
    elif models.base is None:
        claims.append(not_measured("promises", promises.CLAIM, NEEDS_BASE))
    else:
        progress("promises of the operations")
        claims += promises.promises(models.base, models.world, unit)
    progress("actions")
    if manifest.stage == "finetuned":
        trained = FINETUNED if manifest.finetuning is not None else "the base was trained with actions"
        claims.append(not_measured("actions-unheeded", actions.UNTRAINED, trained))
        return claims + actions.effects(models.world, "real weights")
    return [*claims, actions.unheeded(models.world)]


def _without_base(resolved: Resolved) -> list[Claim]:
    """In place of `_base`: the claims that need the base are named, and coverage is that of the family."""
    claims = {
        "coverage": coverage.CLAIM,
        "base-mixes": causality.BASE_MIXES,
        "identity": identity.CLAIM,
    }
    missing = [not_measured(name, sentence, NEEDS_BASE) for name, sentence in claims.items()]
    return [coverage.tiny_coverage(resolved), *missing]


def _base(base: nn.Module, world: World, leak: dict[str, Any], progress: Progress) -> list[Claim]:
    """Claims about what the plan makes of the base; its weights are woken, then it is folded."""
    wake(base)
    progress("coverage")
    sites = coverage.base_sites(base, world)
    leak["base"] = {site.name or coverage.OUTSIDE: site.leak for site in sites}
    claims = [coverage.coverage(sites, world.resolved)]
    progress("base")
    inputs = uniform(draw(world, 1, world.resolved.frames(enough_frames(world)), seed=0))
    claims.append(
        causality.base_mixes(influence(base_call(base, world, inputs), inputs["latents"], frame_dim=1))
    )
    progress("identity")
    return [*claims, identity.identity(base, world)]


def _woken(world: World, manifest: Manifest, leak: dict[str, Any], progress: Progress) -> list[Claim]:
    """Claims about how the world model is wired; its zero layers, which would hide a leak, have been woken."""
    claims = []
    if manifest.stage == "converted":
        claims += actions.effects(world, "zero layers woken")
    progress("the future is not seen")
    claims += [causality.unseen_future(world), causality.unseen_clips(world)]
    progress("the past is seen")
    claims += [past.seen_past(world), *past.sites(world, leak["world"])]
    progress("gradients")
    claims += gradient.gradients(world)
    progress("streaming")
    return claims + streaming(world)


def _stored(converted: Path, stored: torch.dtype, progress: Progress) -> list[Claim]:
    """The same in the dtype in which the weights are stored, and with the casts that the base makes."""
    progress("the stored precision")
    # Opened again: tables that were made exactly are not the stored model's.
    world = open_models(converted, None).world
    wake(world.base)
    note = _cast(world, stored)
    return [causality.unseen_future(world, "future-unseen-stored", note), causality.repeatable(world)]


def _make(report: Path) -> None:
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise V2WError(f"write a report to {report}", str(error), "a folder that can be written") from None


def _cast(world: World, stored: torch.dtype) -> str:
    """Put `world` into its stored dtype, or into float32 where this machine cannot run that: then says so."""
    try:
        runs = bool(world.to(stored)(**draw(world, 2, enough_frames(world), seed=0)).isfinite().all())
    except RuntimeError:  # torch has no such kernel here
        runs = False
    if runs:
        return ""
    world.to(torch.float32)
    return f"; {str(stored).removeprefix('torch.')}, in which it is stored, cannot be run here"


def _influences(models: Models) -> dict[str, Any]:
    """Of the base, if it was given, and of the world model, on the same clip, with their real weights."""
    world = models.world
    inputs = uniform(draw(world, 1, world.resolved.frames(enough_frames(world)), seed=0))
    latents = inputs["latents"]
    after = influence(lambda x: world(**inputs | {"latents": x}), latents, frame_dim=1)
    before = None
    if models.base is not None:
        before = influence(base_call(models.base, world, inputs), latents, frame_dim=1).tolist()
    return {"base": before, "world": after.tolist()}

"""`v2w verify`: every claim about a converted model, measured on the user's own weights.

In phases, so that the two models are never in memory together: the files; the base alone; the world model alone; the
world model in the dtype in which it is stored, and as it is trained.
"""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
    determinism,
    distance,
    files,
    gradient,
    identity,
    past,
    promises,
    tensors,
    vae,
)
from v2w_convert.verify.budget import Budget, Estimate, OutOfTime, estimate
from v2w_convert.verify.catalogue import CATALOGUE, SENTENCES
from v2w_convert.verify.claims import Claim, Report, not_measured
from v2w_convert.verify.exact import exact
from v2w_convert.verify.inputs import base_call, draw, enough_frames, uniform
from v2w_convert.verify.mend import mended
from v2w_convert.verify.models import open_base, open_world
from v2w_convert.verify.module import influence
from v2w_convert.verify.provenance import of_model, of_run
from v2w_convert.verify.publish import publish
from v2w_convert.verify.streaming import blocks_of, streaming
from v2w_convert.verify.weights import numbers
from v2w_convert.world.model import World

Progress = Callable[[str], None]
NEEDS_BASE = "it needs the base (--base)"
FINETUNED = "finetuning has changed the weights"
UNTIL_BASE, UNTIL_WORLD = 0.4, 0.9  # shares of a budget at which the base and the world model must be done
GB = 1e9
LARGE = 500_000_000  # numbers in the weights


@dataclass
class Handed:
    """What is kept of the base once it has been freed, for claims that compare: small tensors.

    influence  (t t), of its real weights, for the picture
    leak       how much of a later frame comes through each of its modules, woken
    recorded   what it makes of a clip, and its sites, for the distance
    asleep     whether any of its layers had to be woken
    """

    influence: Tensor | None = None
    leak: dict[str, float] | None = None
    recorded: distance.Recorded | None = None
    asleep: bool = True


@dataclass
class Bench:
    """What is there to be measured, at one time.

    large   whether measurements are to be brief where they would take hours otherwise; they say so
    world   the converted model; while the base is examined, its weights are on disk
    base    the base; while the world model is examined, its weights are on disk. None if it was not given
    """

    converted: Path
    source: Source
    origin: Source | None
    resolved: Resolved
    manifest: Manifest
    world: World
    base: nn.Module | None = None
    handed: Handed = field(default_factory=Handed)
    figures: dict[str, Any] = field(default_factory=dict)
    large: bool = False

    @property
    def stored(self) -> torch.dtype:
        return stored_dtype(self.source)


@dataclass(frozen=True)
class Part:
    """Some claims that are measured together.

    what     for the progress
    claims   their names
    measure  called with a bench
    passes   how often two clips go through a model for it, about
    reads    how often a model's weights are read for it
    """

    what: str
    claims: tuple[str, ...]
    measure: Callable[[Bench], list[Claim]]
    passes: float = 0.0
    reads: float = 0.0


@torch.no_grad()
def verify(
    converted: Path,
    base: Path | None = None,
    *,
    report: Path | None = None,
    progress: Progress = lambda what: None,
    say: Progress = lambda what: None,
    memory: float | None = None,
    budget: float | None = None,
) -> Report:
    """Measure every claim at the model's stage. Claims that need the base are left out without it, and say so.

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
    if not result.ok:
        result.claims += _files(source, origin, manifest)
        return _written(result, resolved, report)

    large = numbers(source.tensors) > LARGE
    pictured = report is not None and not (large and budget is not None)  # what decides comes first
    phases = {
        "files": _file_parts(origin, manifest, time),
        "base": [] if origin is None else _base_parts(pictured),
        "world": _world_parts(resolved, manifest, pictured, large, time),
        "stored": _stored_parts(),
        "training": _training_parts(),
    }
    with exact():
        shell = open_world(converted, room=0)
        expected = estimate(shell, source, None if memory is None else memory * GB, time.clock)
    bench = Bench(converted, source, origin, resolved, manifest, shell, large=large)
    parts = [part for phase in phases.values() for part in phase]
    seconds = sum(expected.passing * part.passes + expected.reading * part.reads for part in parts)
    say(_announced(seconds, expected, budget))

    course = _Course(time, progress, len(parts))
    result.claims += course.through(phases["files"], bench)
    if origin is None:
        progress("coverage")
        result.claims += _without_base(resolved)
    else:
        time.share = UNTIL_BASE
        with exact():
            result.claims += course.through(phases["base"], bench, partial(_open_base, time, expected.room))
    with exact():
        time.share = UNTIL_WORLD
        result.claims += course.through(phases["world"], bench, partial(_open_world, time, expected.room))
    time.share = 1.0
    # Outside of `exact`: tables that were made exactly are not the stored model's.
    result.claims += course.through(phases["stored"], bench, partial(_open_stored, time, expected.room))
    result.claims += course.through(phases["training"], bench, partial(_open_training, time, expected.room))
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


class _Course:
    """Part after part, as long as the budget lasts."""

    def __init__(self, time: Budget, progress: Progress, total: int):
        self.time, self.progress, self.total = time, progress, total
        self.number = 0
        self.unmeasured: list[str] = []  # claims that the budget did not allow

    def through(
        self, parts: list[Part], bench: Bench, begin: Callable[[Bench], None] = lambda bench: None
    ) -> list[Claim]:
        """The claims of `parts`. `begin` opens the models that they need, if there is time for any of them."""
        claims: list[Claim] = []
        begun = False
        for part in parts:
            self.number += 1
            try:
                self.time.check()
                self.progress(f"{part.what} ({self.number} of {self.total})")
                if not begun:
                    begin(bench)
                    begun = True
                claims += part.measure(bench)
            except OutOfTime:
                self.unmeasured += part.claims
                claims += [not_measured(name, SENTENCES[name], self.time.why) for name in part.claims]
            except MemoryError:
                raise
            except Exception as error:  # a model that cannot be run is none of which a claim holds
                if not begun or not part.claims:
                    raise
                how = f"the model cannot be run: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
                claims += [_broke_off(name, how) for name in part.claims]
        return claims


def _broke_off(name: str, how: str) -> Claim:
    if CATALOGUE[name].figure:
        return not_measured(name, SENTENCES[name], how)
    return Claim(name, SENTENCES[name], math.inf, 0.0, "", how)


def _open_base(time: Budget, room: float, bench: Bench) -> None:
    assert bench.origin is not None
    bench.base = open_base(bench.origin, room)
    time.watch(bench.base, [])


def _open_world(time: Budget, room: float, bench: Bench) -> None:
    """The base's weights go, and are read from disk where a site is compared."""
    bench.base = None
    del bench.world
    gc.collect()  # a model may hold itself
    bench.world = open_world(bench.converted, room=room)
    bench.base = None if bench.origin is None else open_base(bench.origin, room=0)
    time.watch(bench.world.base, [*bench.world.sites.values()])


def _open_stored(time: Budget, room: float, bench: Bench) -> None:
    bench.base = None
    del bench.world
    gc.collect()
    bench.world = open_world(bench.converted, bench.stored, room)
    if not _runs(bench.world):
        bench.world = open_world(bench.converted, torch.float32, room)
    wake(bench.world.base)
    time.watch(bench.world.base, [])


def _open_training(time: Budget, room: float, bench: Bench) -> None:
    bench.base = None
    del bench.world
    gc.collect()
    bench.world = open_world(bench.converted, torch.float32, room)
    wake(bench.world.base)
    time.watch(bench.world.base, [])


# ----------------------------------------------------------------------------------------------- parts, by phase


def _file_parts(origin: Source | None, manifest: Manifest, time: Budget) -> list[Part]:
    def hashed(bench: Bench) -> list[Claim]:
        return _files(bench.source, bench.origin, bench.manifest)

    def compared(bench: Bench) -> list[Claim]:
        return _tensors(bench, time)

    names = (*(f"tensors-{fate}" for fate in tensors.SENTENCES), "tensors-exact")
    return [
        Part("files", ("files", "base-files", "config"), hashed, reads=2),
        Part("tensors", names, compared, reads=2),
        Part("the autoencoder", ("autoencoder-encode", "autoencoder-decode"), _autoencoder),
    ]


def _base_parts(pictured: bool) -> list[Part]:
    """What is measured of the base alone; its zero layers are woken, and at last it is folded."""
    parts = [Part("influence in the base", (), _influence_before, passes=4)] if pictured else []
    return [
        *parts,
        Part("outputs of the base", (), _record_base, passes=2.5),
        Part("waking the base", (), _wake_base, reads=1),
        Part("coverage", ("coverage",), _coverage, passes=2),
        Part("base", ("base-mixes",), _base_mixes, passes=4),
        Part("identity", ("identity",), _identity, passes=2),
    ]


def _world_parts(
    resolved: Resolved, manifest: Manifest, pictured: bool, large: bool, time: Budget
) -> list[Part]:
    """What is measured of the world model alone: as it is, and then with zero layers, which would hide a leak, woken."""
    effects = (
        "action-heeded",
        "action-not-before",
        "first-action-unread",
        "null-is-not-zero",
        "dropped-is-none",
        "action-moves-next",
    )
    converted = manifest.stage == "converted"
    parts = [Part("influence in the world model", (), _influence_after, passes=4)] if pictured else []
    parts.append(
        Part("promises of the operations", ("promises",), partial(_promises, time), passes=2, reads=2)
    )
    if converted:
        unheeded: Callable[[Bench], list[Claim]] = lambda bench: [actions.unheeded(bench.world)]  # noqa: E731
        parts.append(Part("actions", ("actions-unheeded",), unheeded, passes=4))
    else:
        parts.append(Part("actions", ("actions-unheeded", *effects), _trained_actions, passes=6.5))
    parts += [
        Part("distance from the base", ("distance",), _distance, passes=2.5),
        Part("waking the world model", (), _wake_world, reads=1),
        Part("the future is not seen", ("future-unseen",), _future, 11 if large else 24),
        Part("the past is seen", ("past-seen",), lambda b: [past.seen_past(b.world)], passes=4),
    ]
    if converted:
        woken = "zero layers woken"
        parts.append(Part("actions, woken", effects, lambda b: actions.effects(b.world, woken), 6.5))
    frames = (1.4 if large else 7) * blocks_of(resolved, large) * resolved.n  # in two clips
    streamed = ("streamed-by-block", "streamed-in-chunks")
    by_site = ("sites-see-past", "sites-blind-to-future", "sites-keep-last")
    by_gradient = ("gradients-not-forward", "gradients-reach-past")
    return [
        *parts,
        Part("clips are apart", ("clips-apart",), _clips, passes=3 if large else 6),
        Part("every site alone", by_site, lambda b: [*_sites(b), past.last_frames(b.world)], passes=6),
        Part("runs again", ("deterministic",), lambda b: [determinism.repeatable(b.world)], passes=1.3),
        Part("gradients", by_gradient, lambda b: gradient.gradients(b.world), passes=8),
        Part(
            "streaming",
            streamed,
            lambda b: streaming(b.world, b.large),
            passes=frames / 7,
            reads=0.3 * frames,
        ),
    ]


def _stored_parts() -> list[Part]:
    return [
        Part("the stored precision", ("future-unseen-stored",), _stored_future, passes=5, reads=1),
        Part("the past in it", ("sites-see-past-stored",), lambda b: [past.sites_stored(b.world)], passes=4),
        Part("runs again in it", ("deterministic-stored",), _stored_again, passes=1.3),
    ]


def _training_parts() -> list[Part]:
    same: Callable[[Bench], list[Claim]] = lambda bench: [determinism.checkpointed(bench.world)]  # noqa: E731
    return [Part("gradient checkpointing", ("checkpointing-same",), same, passes=3, reads=1)]


# ------------------------------------------------------------------------------------------------ measurements


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


def _tensors(bench: Bench, time: Budget) -> list[Claim]:
    if bench.origin is None or bench.manifest.finetuning is not None:
        why = FINETUNED if bench.manifest.finetuning is not None else NEEDS_BASE
        return [
            not_measured(f"tensors-{fate}", sentence, why)
            for fate, sentence in (tensors.SENTENCES | {"exact": tensors.EXACT}).items()
        ]
    return tensors.surgical(bench.origin, bench.source, bench.resolved, bench.manifest, time.check)


def _autoencoder(bench: Bench) -> list[Claim]:
    claims, found = vae.autoencoder(bench.converted)
    bench.figures["autoencoder"] = found
    return claims


def _without_base(resolved: Resolved) -> list[Claim]:
    """In place of the base's parts: the claims that need it are named, and coverage is that of the family."""
    claims = {
        "coverage": coverage.CLAIM,
        "base-mixes": causality.BASE_MIXES,
        "identity": identity.CLAIM,
    }
    missing = [not_measured(name, sentence, NEEDS_BASE) for name, sentence in claims.items()]
    return [coverage.tiny_coverage(resolved), *missing]


def _influence_before(bench: Bench) -> list[Claim]:
    bench.handed.influence = _of_base(bench)
    return []


def _influence_after(bench: Bench) -> list[Claim]:
    world, inputs = bench.world, _common(bench.world)
    after = influence(lambda x: world(**inputs | {"latents": x}), inputs["latents"], frame_dim=1)
    before = bench.handed.influence
    bench.figures["influence"] = {
        "base": None if before is None else before.tolist(),
        "world": after.tolist(),
    }
    return []


def _coverage(bench: Bench) -> list[Claim]:
    assert bench.base is not None
    sites = coverage.base_sites(bench.base, bench.world)
    bench.handed.leak = {site.name or coverage.OUTSIDE: site.leak for site in sites}
    return [coverage.coverage(sites, bench.resolved)]


def _sites(bench: Bench) -> list[Claim]:
    leak: dict[str, float] = {}
    claims = past.sites(bench.world, leak)
    bench.figures["leak"] = {"base": bench.handed.leak, "world": leak}
    return claims


def _identity(bench: Bench) -> list[Claim]:
    assert bench.base is not None
    return [identity.identity(bench.base, bench.world)]


def _base_mixes(bench: Bench) -> list[Claim]:
    known = bench.handed.influence if not bench.handed.asleep else None
    return [causality.base_mixes(_of_base(bench) if known is None else known)]


def _of_base(bench: Bench) -> Tensor:
    assert bench.base is not None
    inputs = _common(bench.world)
    return influence(base_call(bench.base, bench.world, inputs), inputs["latents"], frame_dim=1)


def _common(world: World) -> dict[str, Tensor]:
    """One clip that both models can be given."""
    return uniform(draw(world, 1, world.resolved.frames(enough_frames(world)), seed=0))


def _promises(time: Budget, bench: Bench) -> list[Claim]:
    if bench.manifest.finetuning is not None:
        return [not_measured("promises", promises.CLAIM, FINETUNED)]
    if bench.base is None:
        return [not_measured("promises", promises.CLAIM, NEEDS_BASE)]
    unit = torch.finfo(bench.stored).eps
    return promises.promises(bench.base, bench.world, unit, time.check)


def _record_base(bench: Bench) -> list[Claim]:
    assert bench.base is not None
    bench.handed.recorded = distance.of_base(bench.base, bench.resolved, bench.manifest.action_dim)
    return []


def _distance(bench: Bench) -> list[Claim]:
    if bench.handed.recorded is None:
        return [not_measured("distance", distance.CLAIM, NEEDS_BASE)]
    claim, bench.figures["distance"] = distance.of_world(bench.world, bench.handed.recorded)
    bench.handed.recorded = None
    return [claim]


def _future(bench: Bench) -> list[Claim]:
    return [causality.unseen_future(bench.world, asked=causality.trials(bench.world, bench.large))]


def _clips(bench: Bench) -> list[Claim]:
    return [causality.unseen_clips(bench.world, 2 if bench.large else 3)]


def _trained_actions(bench: Bench) -> list[Claim]:
    trained = FINETUNED if bench.manifest.finetuning is not None else "the base was trained with actions"
    unheeded = not_measured("actions-unheeded", actions.UNTRAINED, trained)
    return [unheeded, *actions.effects(bench.world, "real weights")]


def _wake_base(bench: Bench) -> list[Claim]:
    assert bench.base is not None
    bench.handed.asleep = wake(bench.base) > 0
    return []


def _wake_world(bench: Bench) -> list[Claim]:
    wake(bench.world.base)
    return []


def _stored_future(bench: Bench) -> list[Claim]:
    """The same in the dtype in which the weights are stored, and with the casts that the base makes."""
    stored = str(bench.stored).removeprefix("torch.")
    note = (
        "" if bench.world.dtype == bench.stored else f"; {stored}, in which it is stored, cannot be run here"
    )
    asked = causality.trials(bench.world, bench.large)
    return [causality.unseen_future(bench.world, "future-unseen-stored", note, asked)]


def _stored_again(bench: Bench) -> list[Claim]:
    return [determinism.repeatable(bench.world, "deterministic-stored")]


def _runs(world: World) -> bool:
    """Whether this machine can run `world` in the dtype that it has."""
    try:
        return bool(world(**draw(world, 2, enough_frames(world), seed=0)).isfinite().all())
    except RuntimeError:  # torch has no such kernel here
        return False


# ------------------------------------------------------------------------------------------------------ report


def _announced(seconds: float, expected: Estimate, budget: float | None) -> str:
    most = "" if budget is None else f", of which the budget allows {budget:g}"
    return (
        f"verify will take about {max(1, round(seconds / 60))} minutes{most} and up to {expected.memory / GB:.1f} GB of memory "
        f"(from {expected.basis})"
    )


def _make(report: Path) -> None:
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise V2WError(f"write a report to {report}", str(error), "a folder that can be written") from None


def _written(result: Report, resolved: Resolved, report: Path | None) -> Report:
    result.claims = mended(result.claims, resolved)
    if report is not None:
        publish(result.as_json(), report)
    return result

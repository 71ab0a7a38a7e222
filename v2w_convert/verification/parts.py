"""What is measured together, in phases: so that the two models are never in memory at once.

The files; the base alone; the world model alone; the world model in the dtype in which it is stored, and as it is trained.
"""

import torch
from torch import Tensor

from v2w_convert.checkpoint.source import Source
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.verification import (
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
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, not_measured
from v2w_convert.verification.engine.clips import size_of
from v2w_convert.verification.engine.runner import Check
from v2w_convert.verification.engine.inputs import base_call, enough_frames, random_inputs, uniform
from v2w_convert.verification.module import influence
from v2w_convert.verification.claims.streaming import blocks_of, streaming
from v2w_convert.world.model import World

NEEDS_BASE = "it needs the base (--base)"
FINETUNED = "finetuning has changed the weights"


def file_parts() -> list[Check]:
    return [
        Check("files", ("files", "base-files", "config"), _files, reads=2),
        Check("tensors", tensors.CLAIMS, _tensors, reads=2),
        Check("the autoencoder", ("autoencoder-encode", "autoencoder-decode"), _autoencoder),
    ]


def without_base() -> list[Check]:
    """In place of the base's parts: the claims that need it are named, and coverage is that of the family."""
    return [Check("coverage", ("coverage", "base-mixes", "identity"), _family)]


def base_parts(bench: VerifyContext, pictured: bool) -> list[Check]:
    """What is measured of the base alone; its zero layers are woken, and at last it is folded."""
    size = size_of(bench.clips, bench.world)
    parts = [Check("influence in the base", (), _influence_before, passes=4)] if pictured else []
    return [
        *parts,
        Check("outputs of the base", (), _record_base, passes=2.5 * size),
        Check("waking the base", (), _wake_base, reads=1),
        Check("coverage", ("coverage",), _coverage, passes=2),
        Check("base", ("base-mixes",), _base_mixes, passes=4),
        Check("identity", ("identity",), _identity, passes=2),
    ]


def world_parts(bench: VerifyContext, pictured: bool) -> list[Check]:
    """What is measured of the world model alone: as it is, and then with zero layers, which would hide a leak, woken."""
    effects = (
        "action-heeded",
        "action-not-before",
        "first-action-unread",
        "null-is-not-zero",
        "dropped-is-none",
        "action-moves-next",
    )
    converted, large = bench.manifest.stage == "converted", bench.large
    parts = [Check("influence in the world model", (), _influence_after, passes=4)] if pictured else []
    parts.append(Check("promises of the operations", ("promises",), _promises, passes=2, reads=2))
    if converted:
        parts.append(Check("actions", ("actions-unheeded",), lambda b: [actions.unheeded(b.world)], passes=4))
    else:
        parts.append(Check("actions", ("actions-unheeded", *effects), _trained_actions, passes=6.5))
    parts += [
        Check(
            "distance from the base", ("distance",), _distance, passes=2.5 * size_of(bench.clips, bench.world)
        ),
        Check("waking the world model", (), _wake_world, reads=1),
        Check("the future is not seen", ("future-unseen",), _future, 11 if large else 24),
        Check("the past is seen", ("past-seen",), lambda b: [past.seen_past(b.world)], passes=4),
    ]
    if converted:
        woken = "zero layers woken"
        parts.append(Check("actions, woken", effects, lambda b: actions.effects(b.world, woken), 6.5))
    frames = (
        (1.4 if large else 7) * blocks_of(bench.resolved, large) * bench.resolved.frames_per_block
    )  # in two clips
    streamed = ("streamed-by-block", "streamed-in-chunks")
    by_site = ("sites-see-past", "sites-blind-to-future", "sites-keep-last")
    by_gradient = ("gradients-not-forward", "gradients-reach-past")
    return [
        *parts,
        Check("clips are apart", ("clips-apart",), _clips, passes=3 if large else 6),
        Check("every site alone", by_site, lambda b: [*_sites(b), past.last_frames(b.world)], passes=6),
        Check("runs again", ("deterministic",), lambda b: [determinism.repeatable(b.world)], passes=1.3),
        Check("gradients", by_gradient, lambda b: gradient.gradients(b.world), passes=8),
        Check(
            "streaming",
            streamed,
            lambda b: streaming(b.world, b.large),
            passes=frames / 7,
            reads=0.3 * frames,
        ),
    ]


def stored_parts() -> list[Check]:
    return [
        Check("the stored precision", ("future-unseen-stored",), _stored_future, passes=5, reads=1),
        Check("the past in it", ("sites-see-past-stored",), lambda b: [past.sites_stored(b.world)], passes=4),
        Check("runs again in it", ("deterministic-stored",), _stored_again, passes=1.3),
    ]


def training_parts() -> list[Check]:
    return [Check("gradient checkpointing", ("checkpointing-same",), _checkpointed, passes=3, reads=1)]


# ------------------------------------------------------------------------------------------------ measurements


def hashed(source: Source, origin: Source | None, manifest: Manifest) -> list[Claim]:
    """The files by themselves, whatever they hold."""
    claims = [files.result_files(source, manifest)]
    if origin is None:
        return [*claims, *(not_measured(name, NEEDS_BASE) for name in ("base-files", "config"))]
    return [*claims, files.source_files(origin, manifest), files.same_config(origin, source)]


def _files(bench: VerifyContext) -> list[Claim]:
    return hashed(bench.source, bench.origin, bench.manifest)


def _tensors(bench: VerifyContext) -> list[Claim]:
    if bench.manifest.finetuning is not None:
        return [not_measured(name, FINETUNED) for name in tensors.CLAIMS]
    if bench.origin is None:
        return [not_measured(name, NEEDS_BASE) for name in tensors.CLAIMS]
    return tensors.surgical(bench.origin, bench.source, bench.resolved, bench.manifest, bench.time.check)


def _autoencoder(bench: VerifyContext) -> list[Claim]:
    claims, found = vae.autoencoder(bench.converted)
    bench.figures["autoencoder"] = found
    return claims


def _family(bench: VerifyContext) -> list[Claim]:
    missing = [not_measured(name, NEEDS_BASE) for name in ("base-mixes", "identity")]
    return [coverage.tiny_coverage(bench.resolved), *missing]


def _influence_before(bench: VerifyContext) -> list[Claim]:
    bench.handed.influence = _of_base(bench)
    return []


def _influence_after(bench: VerifyContext) -> list[Claim]:
    world, inputs = bench.world, _common(bench.world)
    after = influence(lambda x: world(**inputs | {"latents": x}), inputs["latents"], frame_dim=1)
    before = bench.handed.influence
    bench.figures["influence"] = {
        "base": None if before is None else before.tolist(),
        "world": after.tolist(),
    }
    return []


def _coverage(bench: VerifyContext) -> list[Claim]:
    assert bench.base is not None
    sites = coverage.base_sites(bench.base, bench.world)
    bench.handed.leak = {site.name or MODEL_FORWARD: site.leak for site in sites}
    return [coverage.coverage(sites, bench.resolved)]


def _sites(bench: VerifyContext) -> list[Claim]:
    leak: dict[str, float] = {}
    claims = past.sites(bench.world, leak)
    bench.figures["leak"] = {"base": bench.handed.leak, "world": leak}
    return claims


def _identity(bench: VerifyContext) -> list[Claim]:
    assert bench.base is not None
    return [identity.identity(bench.base, bench.world)]


def _base_mixes(bench: VerifyContext) -> list[Claim]:
    known = bench.handed.influence if not bench.handed.asleep else None
    return [causality.base_mixes(_of_base(bench) if known is None else known)]


def _of_base(bench: VerifyContext) -> Tensor:
    assert bench.base is not None
    inputs = _common(bench.world)
    return influence(base_call(bench.base, bench.world, inputs), inputs["latents"], frame_dim=1)


def _common(world: World) -> dict[str, Tensor]:
    """One clip that both models can be given."""
    return uniform(random_inputs(world, 1, world.resolved.frames(enough_frames(world)), seed=0))


def _promises(bench: VerifyContext) -> list[Claim]:
    if bench.manifest.finetuning is not None:
        return [not_measured("promises", FINETUNED)]
    if bench.base is None:
        return [not_measured("promises", NEEDS_BASE)]
    unit = torch.finfo(bench.stored).eps
    return promises.promises(bench.base, bench.world, unit, bench.time.check)


def _record_base(bench: VerifyContext) -> list[Claim]:
    assert bench.base is not None
    bench.handed.recorded = distance.of_base(
        bench.base, bench.resolved, bench.manifest.action_dim, bench.clips
    )
    return []


def _distance(bench: VerifyContext) -> list[Claim]:
    if bench.handed.recorded is None:
        return [not_measured("distance", NEEDS_BASE)]
    claim, bench.figures["distance"] = distance.of_world(bench.world, bench.handed.recorded)
    bench.handed.recorded = None
    return [claim]


def _future(bench: VerifyContext) -> list[Claim]:
    return [causality.unseen_future(bench.world, asked=causality.trials(bench.world, bench.large))]


def _clips(bench: VerifyContext) -> list[Claim]:
    return [causality.unseen_clips(bench.world, 2 if bench.large else 3)]


def _trained_actions(bench: VerifyContext) -> list[Claim]:
    trained = FINETUNED if bench.manifest.finetuning is not None else "the base was trained with actions"
    unheeded = not_measured("actions-unheeded", trained)
    return [unheeded, *actions.effects(bench.world, "real weights")]


def _wake_base(bench: VerifyContext) -> list[Claim]:
    assert bench.base is not None
    bench.handed.asleep = randomize_zero_init(bench.base) > 0
    return []


def _wake_world(bench: VerifyContext) -> list[Claim]:
    randomize_zero_init(bench.world.base)
    return []


def _stored_future(bench: VerifyContext) -> list[Claim]:
    """The same in the dtype in which the weights are stored, and with the casts that the base makes."""
    stored = str(bench.stored).removeprefix("torch.")
    note = (
        "" if bench.world.dtype == bench.stored else f"; {stored}, in which it is stored, cannot be run here"
    )
    asked = causality.trials(bench.world, bench.large)
    return [causality.unseen_future(bench.world, "future-unseen-stored", note, asked)]


def _stored_again(bench: VerifyContext) -> list[Claim]:
    return [determinism.repeatable(bench.world, "deterministic-stored")]


def _checkpointed(bench: VerifyContext) -> list[Claim]:
    return [determinism.checkpointed(bench.world)]

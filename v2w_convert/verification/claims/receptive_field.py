"""Every frame sees its past: the model as a whole, and every site that should."""

from functools import partial
from typing import NamedTuple

import torch

from v2w_convert.operations.base import max_abs_diff
from v2w_convert.verification.claim import MODEL_FORWARD, Claim, ClaimSpec, join_names, nan_max
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.inputs import (
    Inputs,
    enough_frames,
    random_inputs,
    sites_with_past,
    visible_blocks,
)
from v2w_convert.verification.engine.manners import (
    HISTORY,
    MIXED,
    UNIFORM,
    UNKNOWN,
    clips_in_manners,
    other_sizes,
)
from v2w_convert.verification.engine.phases import STORED, WORLD_RANDOMIZED, Cost
from v2w_convert.verification.engine.recorded_calls import RecordedCall, record_calls
from v2w_convert.verification.module import influence
from v2w_convert.verification.report.fixes import advise_against, fix_rules
from v2w_convert.world.model import World

ALLOWED = 1e-9  # of the output's largest value, float64
SHORT = 3  # blocks
SPIKE = 40.0  # an activation as trained models have them, and small random ones do not

RECEPTIVE_FIELD = ClaimSpec(
    "receptive-field",
    "receptive-field",
    "Every frame sees itself and the frames before it",
    fix=fix_rules(advise_against("forgets_past")),
    core=True,
)
SITES = ClaimSpec(
    "sites-receptive-field",
    "receptive-field",
    "Every site sees its past, as far back as the plan says",
    fix=fix_rules(advise_against("forgets_past")),
    core=True,
)
SITES_CAUSAL = ClaimSpec(
    "sites-causal",
    "causality",
    "No site sees a later frame or another clip",
    fix=fix_rules(advise_against("leaks_future")),
    core=True,
)
SITES_STORED = ClaimSpec(
    "sites-receptive-field-stored",
    "receptive-field",
    "Every site sees the frame before, in the stored precision",
    fix=fix_rules(advise_against("forgets_past")),
)
LAST_FRAME = ClaimSpec(
    "sites-last-frame",
    "receptive-field",
    "At a clip's last frame, every attention's causal form equals its bidirectional form",
)


def measure_receptive_field(world: World) -> Claim:
    """Change one block's latents at a time; every output that should see it must change.

    Only what a single site should see is required: depth reaches further back.
    """
    n, t = world.frames_per_block, enough_frames(world) // world.frames_per_block
    inputs = random_inputs(world, 1, t * n, seed=0)
    latents = inputs.pop("latents")
    effect = influence(lambda x: world(x, **inputs), latents, frame_dim=1).view(t, n, t, n).amax((1, 3))
    expected = visible_blocks(world, t)
    unit = "frame" if n == 1 else "block"
    unseen = [f"{unit} {i} in output {o}" for o, i in (expected & (effect == 0)).nonzero().tolist()]
    return RECEPTIVE_FIELD.count_frames(
        unseen,
        first_blind_site(world) or MODEL_FORWARD if unseen else "",
        f"pairs without effect, of {int(expected.sum())}, when one {unit}'s latents change; the smallest effect is "
        f"{float(effect[expected].min()):.1e}; zero-initialised layers randomised",
        sentence=f"Every {unit} sees itself and the {int(expected[-1].sum()) - 1} {unit}s before it",
    )


def first_blind_site(world: World) -> str:
    """Return the first site that does not see its past; "" if all do."""
    seeing, _ = measure_sites(world)
    return seeing.where.split(", ")[0]


class SiteTrial(NamedTuple):
    """A forward of the whole model in which every site's call is recorded, and which blocks of its input are changed.

    Attributes:
        inputs: Arguments of `World.forward`.
        t: Blocks of each clip.
        changes: (clip, block), one at a time.
        spike: One activation of every block of a site's input is set to this; 0: none is.
    """

    inputs: Inputs
    t: int
    changes: tuple[tuple[int, int], ...]
    spike: float = 0.0


def choose_site_trials(world: World) -> list[SiteTrial]:
    """Return the plain trial, in which the last frame of the first clip would leak into the second, were they one; then others.

    These are as in rollouts and in training: many clips of history, no actions, large pictures, large activations.
    """
    n = world.frames_per_block
    reaches = [2 + reach.first + (reach.back or 0) for reach in sites_with_past(world).values()]
    t = max([enough_frames(world) // n, *reaches])
    plain = random_inputs(world, 2, t * n, seed=0)
    trials = [
        SiteTrial(plain, t, ((0, 0), (1, t // 2), (0, t - 1))),
        SiteTrial(plain, t, ((1, t // 2),), spike=SPIKE),
    ]
    several = [(manners, None) for manners in ([HISTORY] * 9, [UNKNOWN], [UNIFORM[3]], [UNIFORM[4]])]
    pictures = [([MIXED], size) for size in other_sizes(world)[-1:]]
    for manners, size in (*several, *pictures):
        usual = [
            manner._replace(scale=1.0) for manner in manners
        ]  # softmax hides small effects behind large values
        inputs = clips_in_manners(world, usual, SHORT * n, 0, size)
        trials.append(SiteTrial(inputs, SHORT, ((len(manners) - 1, 1),)))
    return trials


def measure_sites(world: World, leak: dict[str, float] | None = None, brief: bool = False) -> list[Claim]:
    """Call each site alone, so that a broken one is named even when others hide it.

    Each site runs on its own input from a forward of the whole model, with one block of that input changed.

    Args:
        world: The world model.
        leak: Receives, for every site, the largest change where there should be none, over its output's largest value.
        brief: True for a large model: the clips of the first trial only.

    Returns:
        Two claims: which sites do not see their past, and which see the future or another clip.
    """
    seeing = sites_with_past(world)
    trials = choose_site_trials(world)
    blind: list[str] = []
    leaky: list[str] = []
    called: dict[str, None] = {}
    largest = 0.0
    leak = {} if leak is None else leak
    calls: dict[str, RecordedCall] = {}
    recorded: Inputs | None = None
    for trial in trials[:2] if brief else trials:
        if trial.inputs is not recorded:
            recorded = trial.inputs
            calls = record_calls(world, partial(world, **recorded))
        t = trial.t
        called |= dict.fromkeys(calls)
        blind += [name for name in seeing if name not in calls]  # never called, or not installed
        for name, recorded_call in calls.items():
            call = recorded_call.spiked(trial.spike) if trial.spike else recorded_call
            expected = seeing[name].visible(t) if name in seeing else torch.zeros(t, t, dtype=torch.bool)
            before = call.output(world.sites[name], t)
            for clip, frame in trial.changes:
                effect = (call.output(world.sites[name], t, clip, frame) - before).abs().flatten(2).amax(2)
                if bool((effect[clip, expected[:, frame]] == 0).any()):
                    blind.append(name)
                stray = effect.clone()
                stray[clip, frame:] = 0
                if bool((stray != 0).any()):
                    leaky.append(name)
                    largest = max(largest, float(stray.max()))
                share = float(stray.max()) / (float(before.abs().max()) or 1.0)
                leak[name] = max(leak.get(name, 0.0), share)
    how = (
        f"each site alone on its own input, one of {trials[0].t} frames changed, also with an activation of {SPIKE:g}; "
        "float64; zero-initialised layers randomised"
    )
    if not brief:
        how += (
            f"; clips of {SHORT} as well, in a batch of {len(trials[2].inputs['latents'])}; history; clean, "
            f"actions dropped; one level, no actions or conditions; the largest level; larger pictures"
        )
    return [
        SITES.count(blind, f"{len(seeing)} sites: {how}"),
        SITES_CAUSAL.count(leaky, f"{len(called)} sites: {how}; largest change {largest:.1e}"),
    ]


def measure_sites_stored(world: World) -> Claim:
    """Call each site alone with the frame before changed: the only effect that the stored dtype surely does not round away."""
    precision = str(world.dtype).removeprefix("torch.")
    return SITES_STORED.count(
        sites_blind_to_frame_before(world),
        f"{len(sites_with_past(world))} sites: each alone on its own input, one of "
        f"{enough_frames(world) // world.frames_per_block} frames changed; zero-initialised layers randomised",
        sentence=f"Every site sees the frame before, in {precision}",
    )


def sites_blind_to_frame_before(world: World) -> list[str]:
    """Return the sites of which an output does not change with the frame before it, in either of two clips, sorted."""
    seeing, t = sites_with_past(world), enough_frames(world) // world.frames_per_block
    calls = record_calls(world, lambda: world(**random_inputs(world, 2, t * world.frames_per_block, seed=0)))
    blind = {name for name in seeing if name not in calls}
    for name in seeing.keys() & calls.keys():
        before = calls[name].output(world.sites[name], t)
        for clip in (0, 1):
            if not bool(
                (calls[name].output(world.sites[name], t, clip, 1)[clip, 2] != before[clip, 2]).any()
            ):
                blind.add(name)
    return sorted(blind)


def measure_last_frame(world: World) -> Claim:
    """Compare both forms of each attention at a clip's last frame, which sees the whole clip in either.

    Masks, positions and rotations must then make no difference. This ties the causal form to the bidirectional one,
    which the identity claim compares with the base.
    """
    operations = world.resolved.sites
    attending = [name for name, op in operations.items() if op.equals_base_at_last_frame]
    windows = [window.frames for op in operations.values() if (window := op.attention_window) is not None]
    t = min([4, *(frames // world.frames_per_block for frames in windows if frames is not None)])
    calls = record_calls(world, lambda: world(**random_inputs(world, 2, t * world.frames_per_block, seed=0)))
    differences = {}
    for name in attending:
        if name in calls:
            causal, both = (
                calls[name].output(world.sites[name], t, bidirectional=form)[:, -1] for form in (False, True)
            )
            differences[name] = max_abs_diff(causal, both) / max(float(both.abs().max()), 1.0)
    broken = [name for name, difference in differences.items() if not difference <= ALLOWED]
    return LAST_FRAME.result(
        nan_max(differences.values()),
        allowed=ALLOWED,
        where=join_names(broken),
        how=f"largest difference over the output's largest value, {len(differences)} sites: each alone on its own input, "
        f"clips of {t} {'frames' if world.frames_per_block == 1 else 'blocks'}, float64; zero-initialised layers "
        "randomised",
    )


def _measure_sites(context: VerifyContext) -> list[Claim]:
    leak: dict[str, float] = {}
    claims = measure_sites(context.world, leak, context.large)
    context.figures["leak"] = {"base": context.base_record.leak, "world": leak}
    return [*claims, measure_last_frame(context.world)]


CHECKS = (
    Check(
        "receptive field",
        (RECEPTIVE_FIELD,),
        WORLD_RANDOMIZED,
        lambda c: [measure_receptive_field(c.world)],
        Cost(passes=4),
    ),
    Check(
        "every site alone",
        (SITES, SITES_CAUSAL, LAST_FRAME),
        WORLD_RANDOMIZED,
        _measure_sites,
        lambda c: Cost(passes=8 if c.large else 14),
        not_if_large="sites with all frames at one noise level, with offset positions, without actions, in other sizes",
    ),
    Check(
        "every site in the stored precision",
        (SITES_STORED,),
        STORED,
        lambda c: [measure_sites_stored(c.world)],
        Cost(passes=4),
    ),
)

"""Models that are broken under one condition only, which rollouts or training meet: each kind at one site of some models."""

from collections.abc import Iterator

from tests.mutations import faults
from tests.mutations.faults import Fault
from tests.mutations.faults.conditional import PassIs
from tests.mutations.models import MODELS
from tests.mutations.mutation import CARRYING, MIXING, WORLD, Mutation, chosen

QUICK = ("wan", "cogvideox", "hunyuan", "sana", "ltx", "svd")
POSITIONED = ("svd", "wan", "sana")
# Name, fault, when, expected claim, operations, number of models.
KINDS: tuple[tuple[str, Fault, PassIs, str, tuple[str, ...]], ...] = (
    ("future, if all frames are clean", faults.sees_future, faults.all_clean, "causal", MIXING),
    ("future, if one frame is exactly clean", faults.sees_future, faults.some_clean, "causal", MIXING),
    ("future, if all frames have one level", faults.sees_future, faults.one_level, "causal", MIXING),
    ("future, if all frames have the largest level", faults.sees_future, faults.largest_level, "causal", MIXING),
    ("future, if the levels fall along the clip", faults.sees_future, faults.falling_levels, "causal", MIXING),
    ("future, if the levels rise along the clip", faults.sees_future, faults.rising_levels, "causal", MIXING),
    ("future, with clean frames and a noisy one at the end", faults.sees_future, faults.rollout_levels, "causal", MIXING),
    ("future, with offset positions", faults.sees_future, faults.with_offset, "causal", MIXING),
    ("future, with latents over 30", faults.sees_future, faults.latents_over(30), "causal", MIXING),
    ("future, with latents over 100", faults.sees_future, faults.latents_over(100), "causal", MIXING),
    ("future, with negative latents", faults.sees_future, faults.negative_latents, "causal", MIXING),
    ("future, where two frames are the same", faults.sees_future, faults.still_latents, "causal", MIXING),
    ("future, if all actions are dropped", faults.sees_future, faults.all_dropped, "causal", MIXING),
    ("future, if no action is given", faults.sees_future, faults.no_actions, "causal", MIXING),
    ("future, if all actions are zero", faults.sees_future, faults.zero_actions, "causal", MIXING),
    ("future, if no condition is given", faults.sees_future, faults.no_conditions, "causal", MIXING),
    ("future, in batches of 8 and more", faults.sees_future, faults.batch_of(8), "causal", MIXING),
    ("future, in the eighth clip", faults.in_clip(faults.sees_future, 7), faults.always, "causal", MIXING),
    ("future, in clips over 32", faults.sees_future, faults.clips_over(32), "causal", MIXING),
    ("future, in pictures over 4 × 8", faults.sees_future, faults.picture_over(4, 8), "causal", MIXING),
    ("future, in upright pictures", faults.sees_future, faults.upright, "causal", MIXING),
    ("future, in square pictures", faults.sees_future, faults.square, "causal", MIXING),
    ("past forgotten, if all frames are clean", faults.forgets_past, faults.all_clean, "sites-receptive-field", CARRYING),
    ("past forgotten, if all frames have the largest level", faults.forgets_past, faults.largest_level, "sites-receptive-field", CARRYING),
    ("past forgotten, with offset positions", faults.forgets_past, faults.with_offset, "sites-receptive-field", CARRYING),
    ("past forgotten, if all actions are dropped", faults.forgets_past, faults.all_dropped, "sites-receptive-field", CARRYING),
    ("past forgotten, if no action is given", faults.forgets_past, faults.no_actions, "sites-receptive-field", CARRYING),
    ("past forgotten, in batches of 8 and more", faults.forgets_past, faults.batch_of(8), "sites-receptive-field", CARRYING),
    ("past forgotten, in pictures over 4 × 8", faults.forgets_past, faults.picture_over(4, 8), "sites-receptive-field", CARRYING),
    ("past forgotten, in clips over 32", faults.forgets_past, faults.clips_over(32), "stream-in-chunks", CARRYING),
    ("stream state not read, if all actions are dropped", faults.ignores_stream_state, faults.all_dropped, "stream-by-block", CARRYING),
    ("stream state not read, if no action is given", faults.ignores_stream_state, faults.no_actions, "stream-by-block", CARRYING),
    ("stream state not read, if no action is dropped", faults.ignores_stream_state, faults.none_dropped, "stream-by-block", CARRYING),
    ("stream state not read, if all frames are clean", faults.ignores_stream_state, faults.all_clean, "stream-by-block", CARRYING),
    ("stream state not read, if all frames have the largest level", faults.ignores_stream_state, faults.largest_level, "stream-by-block", CARRYING),
    ("stream state not read, with latents over 30", faults.ignores_stream_state, faults.latents_over(30), "stream-by-block", CARRYING),
    ("stream state not read after 40 blocks", faults.ignores_stream_state, faults.far_in_the_stream(40), "stream-by-block", CARRYING),
    ("stream state not read after 1000 blocks", faults.ignores_stream_state, faults.far_in_the_stream(1000), "stream-by-block", CARRYING),
    ("stream state not read in chunks over 16", faults.ignores_stream_state, faults.chunks_over(16), "stream-in-chunks", CARRYING),
    ("stream state not read in batches of 8 and more", faults.ignores_stream_state, faults.batch_of(8), "stream-in-chunks", CARRYING),
    ("stream state not read in pictures over 4 × 8", faults.ignores_stream_state, faults.picture_over(4, 8), "stream-in-chunks", CARRYING),
    ("stream state not read, if no condition is given", faults.ignores_stream_state, faults.no_conditions, "stream-in-chunks", CARRYING),
    ("clips treated as one in batches of 8 and more", faults.mixes_clips, faults.batch_of(8), "batch-independent", CARRYING),
    ("clips treated as one, if all frames are clean", faults.mixes_clips, faults.all_clean, "batch-independent", CARRYING),
    ("clips treated as one, if all actions are dropped", faults.mixes_clips, faults.all_dropped, "batch-independent", CARRYING),
    ("clips treated as one, with offset positions", faults.mixes_clips, faults.with_offset, "batch-independent", CARRYING),
)  # fmt: skip


def conditionally_broken() -> Iterator[Mutation]:
    """Each kind in two models, at one site of each."""
    for number, (name, fault, when, claim, operations) in enumerate(KINDS):
        for model in (QUICK[number % len(QUICK)], QUICK[(number + 2) % len(QUICK)]):
            site = chosen(MODELS[model].at(*operations), 1, number)[0]
            yield Mutation(name, model, site, claim, frozenset({site}), faults.where(site, fault, when))
    for number, model in enumerate(("svd", "wan", "sana")):
        for name, fault, claim in (
            ("future, with activations over 30 at the site", faults.sees_future, "sites-causal"),
            ("past forgotten, with activations over 30 at the site", faults.forgets_past, "sites-receptive-field"),
        ):  # fmt: skip
            site = chosen(MODELS[model].at(*CARRYING), 1, number)[0]
            broken = faults.at(site, faults.only(fault, faults.activations_over(30)))
            yield Mutation(name, model, site, claim, frozenset({site}), broken)
    for model, condition in (
        ("wan", "text"),
        ("hunyuan", "text_mask"),
        ("sana", "text_mask"),
        ("cogvideox", "image_latents"),
    ):
        for name, when in (
            ("condition unheeded", faults.always),
            ("condition unheeded, given once for a clip", faults.given_once(condition)),
            ("condition unheeded in streams, given once for a clip", faults.both(faults.in_stream, faults.given_once(condition))),
        ):  # fmt: skip
            broken = faults.condition_unheeded(condition, when)
            yield Mutation(name, model, condition, "conditions-heeded", frozenset({WORLD}), broken)

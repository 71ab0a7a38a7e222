"""Rollouts whose loop is wrong: the model is as it should be."""

from collections.abc import Iterator

from tests.mutations.faults import rollout as faults
from tests.mutations.mutation import Mutation

PAIR, BLOCKS, SHIFTED, SIGMAS = "wan, two experts", "wan, blocks of 2", "ltx", "svd"
IN_TURN = ("wan", "cogvideox", "ltx", "hunyuan", "sana", "wan, sinks", "kandinsky")
LOOP, HISTORY, GUIDANCE, BRANCH = "rollout-equal", "rollout-history", "rollout-guidance", "rollout-branch"
# What is wrong, how, the claim, and the models; by default one of those above.
KINDS: tuple[tuple[str, faults.Changed, str, tuple[str, ...]], ...] = (
    ("denoises with the action before", faults.denoises_with_previous_action, LOOP, ()),
    ("denoises without the action", faults.denoises_without_action, LOOP, ("wan", PAIR)),
    ("denoises with another rollout's actions", faults.denoises_with_actions_of_other_clip, LOOP, ()),
    ("denoises without the past", faults.denoises_without_past, LOOP, ()),
    ("denoises without conditions", faults.denoises_without_conditions, LOOP, ("wan",)),
    ("drafts are kept", faults.drafts_kept, LOOP, ()),
    ("actions of a block shifted", faults.blocks_actions_shifted, LOOP, (BLOCKS,)),
    ("commits without the action", faults.commits_without_action, LOOP, ("cogvideox", PAIR)),
    ("commits twice", faults.commits_twice, LOOP, ()),
    ("commits nothing", faults.commits_nothing, LOOP, ("ltx", PAIR, BLOCKS)),
    ("commits another frame than it returns", faults.commits_another_frame, LOOP, ()),
    ("first level skipped", faults.skips_first_level, LOOP, ("cogvideox", PAIR)),
    ("last level skipped", faults.skips_last_level, LOOP, ()),
    ("middle level skipped", faults.skips_middle_level, LOOP, ()),
    ("one level more", faults.one_level_more, LOOP, ()),
    ("one level less", faults.one_level_less, LOOP, ()),
    ("told the next level", faults.told_next_level, LOOP, ("ltx", PAIR)),
    ("returns the frame before", faults.returns_frame_before, LOOP, (BLOCKS,)),
    ("returns a noisy frame", faults.returns_noisy_frame, LOOP, ()),
    ("solver of the block before", faults.solver_not_new, LOOP, ("wan",)),
    ("same noise for every frame", faults.same_noise_every_time, LOOP, ()),
    ("same noise in all rollouts", faults.same_noise_in_all_rollouts, LOOP, ()),
    ("same noise in all channels", faults.same_noise_in_all_channels, LOOP, ()),
    ("noise not normal", faults.noise_uniform, LOOP, ()),
    ("seed ignored", faults.seed_ignored, LOOP, ()),
    ("actions rounded", faults.actions_rounded, LOOP, ()),
    ("actions in half precision", faults.actions_in_half_precision, LOOP, ()),
    ("actions clamped", faults.actions_clamped, LOOP, ()),
    ("levels of a clip of another size", faults.tokens_of_another_size, LOOP, (SHIFTED,)),
    ("observes without actions", faults.observes_without_actions, LOOP, ()),
    ("observes without conditions", faults.observes_without_conditions, LOOP, ("wan",)),
    ("first observed block forgotten", faults.observes_all_but_first_block, LOOP, ()),
    ("starts from too little noise", faults.starts_too_quiet, "noise-begins", ("cogvideox", SIGMAS, "sana")),
    ("history told clean", faults.history_told_clean, HISTORY, ()),
    ("history not noised", faults.history_not_noised, HISTORY, (BLOCKS,)),
    ("history at the largest level", faults.history_at_max_level, HISTORY, ()),
    ("context noise ignored", faults.context_noise_ignored, HISTORY, ("wan", PAIR)),
    ("context noise halved", faults.context_noise_halved, HISTORY, ()),
    ("no context noise taken for unasked", faults.no_context_noise_taken_for_unasked, HISTORY, (SIGMAS,)),
    ("unasked taken for no context noise", faults.unasked_taken_for_no_context_noise, LOOP, (SIGMAS,)),
    ("history always noised the same", faults.history_always_noised_the_same, HISTORY, ()),
    ("generated frames not noised", faults.generated_frames_not_noised, HISTORY, ()),
    ("guidance ignored", faults.guidance_ignored, GUIDANCE, ("wan", PAIR, BLOCKS)),
    ("guidance below 1 ignored", faults.guidance_below_one_ignored, GUIDANCE, ()),
    ("guidance above 1 ignored", faults.guidance_above_one_ignored, GUIDANCE, ()),
    ("guidance at the first level only", faults.guidance_at_first_level_only, GUIDANCE, ()),
    ("guidance of the other sign", faults.guidance_of_the_other_sign, GUIDANCE, ()),
    ("guidance one too strong", faults.guidance_one_too_strong, GUIDANCE, ()),
    ("guidance from zero", faults.guidance_from_zero, GUIDANCE, ()),
    ("guidance drops no action", faults.guidance_drops_nothing, GUIDANCE, ()),
    ("guidance drops all actions", faults.guidance_drops_all_actions, GUIDANCE, ("cogvideox", PAIR)),
    ("guidance in the first rollout only", faults.guidance_in_first_clip_only, GUIDANCE, ()),
    ("guidance without the past", faults.guidance_without_past, GUIDANCE, ()),
    ("guidance without conditions", faults.guidance_without_conditions, GUIDANCE, ("wan",)),
    ("a branch is its stem", faults.branch_is_the_stem, BRANCH, ("wan", PAIR)),
    ("a branch shares the generator", faults.branch_shares_generator, BRANCH, ()),
    ("a branch forgets the past", faults.branch_forgets_past, BRANCH, ()),
    ("a branch ignores its seed", faults.branch_ignores_seed, BRANCH, ()),
    ("a branch takes the seed 0 for none", faults.branch_takes_seed_zero_for_none, BRANCH, ()),
    ("a branch begins the noise again", faults.branch_begins_noise_again, BRANCH, ()),
    ("a branch without conditions", faults.branch_without_conditions, BRANCH, ("wan",)),
    ("a branch with other steps", faults.branch_with_other_sampling, BRANCH, ()),
    ("a branch without guidance", faults.branch_without_guidance, BRANCH, ()),
    ("history guidance ignored", faults.history_guidance_ignored, GUIDANCE, ("wan", PAIR, BLOCKS)),
    ("history guidance of the other sign", faults.history_guidance_of_the_other_sign, GUIDANCE, ()),
    ("history guidance one too strong", faults.history_guidance_one_too_strong, GUIDANCE, ()),
    ("other history not noised", faults.other_history_not_noised, GUIDANCE, ("cogvideox", PAIR)),
    ("other history told as history", faults.other_history_told_as_history, GUIDANCE, (SIGMAS,)),
    ("other history at the largest level", faults.other_history_at_max_level, GUIDANCE, ()),
    ("other history at history's level", faults.other_history_at_historys_level, GUIDANCE, (SIGMAS,)),
    ("unasked level of the other history halved", faults.unasked_level_of_other_history_halved, GUIDANCE, ()),
    ("other history without actions", faults.other_history_without_actions, GUIDANCE, ()),
    ("other history without the newest action", faults.other_history_without_newest_action, GUIDANCE, ()),
    ("other history with the noise of history", faults.other_history_with_the_noise_of_history, GUIDANCE, ()),
    ("other history holds only observed frames", faults.other_history_holds_only_observed, GUIDANCE, (BLOCKS,)),
    ("histories swapped", faults.histories_swapped, GUIDANCE, ("wan", PAIR)),
    ("history guidance in place of guidance", faults.history_guidance_in_place_of_guidance, GUIDANCE, ()),
    ("a branch forgets the other history", faults.branch_forgets_other_history, BRANCH, ("wan", BLOCKS)),
    ("a branch without history guidance", faults.branch_without_history_guidance, BRANCH, ()),
)  # fmt: skip


def changed_rollouts() -> Iterator[Mutation]:
    """No module is to blame."""
    for number, (kind, changed, claim, models) in enumerate(KINDS):
        for model in models or (IN_TURN[number % len(IN_TURN)],):
            yield Mutation(kind, model, "the rollout", claim, frozenset(), program=changed)

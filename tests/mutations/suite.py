"""Every broken model: what is broken, where, which claim must catch it, and which module it must name."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from tests.mutations import faults
from tests.mutations.base_calls import changed_base_calls
from tests.mutations.conditions import conditionally_broken
from tests.mutations.edited import changed_by_hand
from tests.mutations.experts import changed_experts
from tests.mutations.faults import Fault
from tests.mutations.finetuned import changed_finetuned
from tests.mutations.models import MODELS, SHIPPED, Model
from tests.mutations.mutation import (
    ACTION,
    ATTENDING,
    ATTENTION,
    CARRYING,
    CHECKPOINTED,
    CONV,
    MIXING,
    NORM,
    POSITION,
    SLOW,
    WORLD,
    Mutation,
    chosen,
)
from tests.mutations.on_disk import changed_folders, changed_plans
from tests.mutations.rollouts import changed_rollouts
from v2w_convert.verification.claim import MODEL_FORWARD


@dataclass(frozen=True)
class Kind:
    """A fault of one site, in some models, at up to `max_sites` of the first, the middle and the last site.

    `names`: what the claim must name; "": the site.
    """

    name: str
    fault: Fault
    claim: str
    operations: tuple[str, ...]
    models: tuple[str, ...] = ("svd", "wan", "cogvideox", "sana", "i2vgen")
    max_sites: int = 1
    names: str = ""


EVERYWHERE = ("svd", "wan", "cogvideox", "hunyuan", "sana", "i2vgen", "ltx")
BLOCKS = ("wan, blocks of 2",)
QUICK = [model for model in MODELS if model not in SLOW]
TEXT = ("cogvideox", "hunyuan")
SITES = (
    # the future
    Kind("bidirectional convolution", faults.sees_future, "causal", CONV, ("svd", "sana", "i2vgen"), 3),
    Kind("norm over the clip", faults.sees_future, "causal", NORM, ("svd", "i2vgen"), 3),
    Kind("no mask", faults.sees_future, "causal", ATTENDING, (*EVERYWHERE, *BLOCKS), 3),
    Kind(
        "mask one frame too many", faults.mask_one_frame_too_far, "causal", ATTENTION, (*EVERYWHERE, *BLOCKS), 3
    ),
    Kind("text rows see all frames", faults.text_sees_all_frames, "sites-causal", ATTENTION, TEXT, 3),
    Kind("frames see the text of later frames", faults.frames_see_text_of_all_frames, "causal", ATTENTION, TEXT, 3),
    # the past
    Kind("a site that forgets its past", faults.forgets_past, "sites-receptive-field", CARRYING, EVERYWHERE, 3),
    Kind("a site not installed", faults.not_installed, "sites-receptive-field", CARRYING, ("svd", "sana", "i2vgen")),
    Kind("a frame blind to itself", faults.blind_to_own_frame, "invariants", ATTENTION, (*EVERYWHERE, *BLOCKS)),
    Kind("a frame blind to the one before", faults.blind_to_previous_frame, "sites-receptive-field", ATTENTION, EVERYWHERE),
    Kind("window too short", faults.shorter_window, "sites-receptive-field", ATTENTION, (*EVERYWHERE, *BLOCKS)),
    Kind("window too long", faults.longer_window, "stream-by-block", ATTENTION, (*EVERYWHERE, *BLOCKS)),
    Kind("sinks lost", faults.no_sinks, "sites-receptive-field", ATTENTION, ("wan, sinks",), 3),
    # other clips
    Kind("clips treated as one", faults.mixes_clips, "batch-independent", CARRYING, EVERYWHERE),
    Kind("norm over the batch", faults.normalises_over_batch, "batch-independent", NORM, ("svd", "i2vgen")),
    # convolutions
    Kind("other padding before the first frame", faults.other_padding, "invariants", CONV, ("svd", "sana", "i2vgen")),
    Kind("convolution one frame late", faults.convolves_one_frame_late, "invariants", CONV, ("svd", "sana", "i2vgen")),
    # the stream state
    Kind("stream state never updated", faults.state_never_updated, "stream-by-block", CARRYING, (*EVERYWHERE, "wan, sinks", *BLOCKS), 2),
    Kind("keys never updated", faults.entry_never_updated("keys"), "stream-by-block", ATTENDING, EVERYWHERE),
    Kind("values never updated", faults.entry_never_updated("values"), "stream-by-block", ATTENTION, ("svd", "wan", "cogvideox")),
    Kind("sinks never updated", faults.entry_never_updated("sink_values"), "stream-by-block", ATTENTION, ("wan, sinks",), 2),
    Kind("stream state shifted", faults.state_shifted, "stream-by-block", CARRYING, (*EVERYWHERE, *BLOCKS)),
    Kind("newest frame missing in the stream state", faults.newest_frame_missing, "stream-by-block", CARRYING, (*EVERYWHERE, *BLOCKS)),
    Kind("block committed twice", faults.last_block_committed_twice, "stream-by-block", CARRYING, (*EVERYWHERE, *BLOCKS)),
    Kind("stream states of clips swapped", faults.states_of_clips_swapped, "stream-by-block", CARRYING),
    Kind("uncommitted pass changes the stream state", faults.keeps_uncommitted_passes, "stream-by-block", CARRYING, EVERYWHERE),
    Kind("uncommitted pass sees no past", faults.no_past_in_uncommitted_passes, "stream-by-block", CARRYING),
    Kind("commit writes in place", faults.commits_in_place, "stream-by-block", CARRYING),
    Kind("stream state not read", faults.ignores_stream_state, "stream-by-block", CARRYING, EVERYWHERE),
    # positions
    Kind(
        "position one too large",
        faults.position_one_too_large,
        "identity",
        POSITION,
        ("svd", "cogvideox-2b", "animatediff"),
        3,
    ),
    Kind(
        "position one too large in streams",
        faults.position_one_too_large_in_streams,
        "stream-by-block",
        POSITION,
        ("svd", "cogvideox-2b", "latte", "animatediff"),
    ),
    Kind(
        "position one too large in streams",
        faults.position_one_too_large_in_streams,
        "stream-by-block",
        ATTENTION,
        ("wan", "cogvideox", "ltx"),
    ),
    Kind("all frames at one position", faults.position_constant, "identity", POSITION, ("svd", "cogvideox-2b", "latte")),
    Kind("position offset ignored", faults.ignores_position_offset, "invariants", POSITION, ("svd", "cogvideox-2b", "animatediff")),
    Kind("position offset wrong by one", faults.wrong_position_offset, "invariants", POSITION, ("svd", "cogvideox-2b", "animatediff")),
    Kind("wrong rotary frequencies", faults.wrong_frequencies, "identity", ATTENDING, ("wan", "cogvideox", "sana", "ltx", "hunyuan"), 3),
    Kind("no rotation", faults.no_rotation, "identity", ATTENDING, ("wan", "cogvideox", "sana", "ltx", "hunyuan")),
    Kind(
        "wrong rotary frequencies in the causal form only",
        faults.wrong_frequencies_when_causal,
        "sites-last-frame",
        ATTENDING,
        ("wan", "cogvideox", "sana", "ltx", "hunyuan"),
    ),
    # actions
    Kind("actions one frame early", faults.action_one_frame_early, "action-causal", ACTION, (*EVERYWHERE, *BLOCKS)),
    Kind("actions one frame late", faults.action_one_frame_late, "action-has-effect", ACTION, EVERYWHERE),
    Kind("another clip's actions", faults.action_of_other_clip, "batch-independent", ACTION),
    Kind("actions ignored", faults.ignores_actions, "action-has-effect", ACTION, EVERYWHERE),
    Kind("no action treated as a zero action", faults.null_action_as_zero, "null-action-differs-from-zero", ACTION, EVERYWHERE),
    Kind("action dropping one frame early", faults.drops_previous_action, "causal", ACTION, ("svd", "wan", "sana")),
    Kind("dropped actions not dropped", faults.never_drops_actions, "dropped-action-equals-none", ACTION, ("svd", "wan", "sana")),
    Kind("first action has an effect", faults.position_one_too_large, "first-action-ignored", ACTION, EVERYWHERE),
    Kind("actions ignored in streams", faults.ignores_actions_in_streams, "action-has-effect-in-rollout", ACTION, EVERYWHERE),
    Kind("an action number ignored", faults.ignores_number(1), "action-numbers-heeded", ACTION, ("wan", "sana", "cogvideox"), names="action number 1"),
    # determinism
    Kind("not deterministic", faults.adds_noise, "deterministic", MIXING, EVERYWHERE),
    Kind("previous call leaks", faults.leaks_previous_call, "deterministic", MIXING, EVERYWHERE),
    Kind("output decays with every call", faults.decays_with_calls, "deterministic", MIXING, ("svd", "wan", "sana")),
    # faults in some passes only
    Kind("future, above batch 1", faults.only(faults.sees_future, faults.above_batch_one), "causal", MIXING, EVERYWHERE),
    Kind("future, in the second clip", faults.in_second_clip(faults.sees_future), "causal", MIXING, EVERYWHERE),
    Kind(
        "past forgotten, in the second clip",
        faults.in_second_clip(faults.forgets_past),
        "sites-receptive-field",
        CARRYING,
        ("svd", "wan", "sana"),
    ),
    Kind(
        "future, in bfloat16",
        faults.only(faults.sees_future, faults.in_dtype(torch.bfloat16)),
        "causal-stored",
        MIXING,
        EVERYWHERE,
    ),
    Kind(
        "past forgotten, in bfloat16",
        faults.only(faults.forgets_past, faults.in_dtype(torch.bfloat16)),
        "sites-receptive-field-stored",
        CARRYING,
        ("svd", "wan", "sana"),
    ),
    Kind(
        "not deterministic, in bfloat16",
        faults.only(faults.alternates, faults.in_dtype(torch.bfloat16)),
        "deterministic-stored",
        MIXING,
        ("svd", "wan"),
    ),
    Kind(
        "future, with gradients enabled",
        faults.only(faults.sees_future, faults.with_gradients),
        "gradients-causal",
        MIXING,
        EVERYWHERE,
    ),
    Kind("future, in clips over 8", faults.only(faults.sees_future, faults.in_clips_over(8)), "causal", MIXING, EVERYWHERE),
    Kind(
        "past forgotten, in clips over 8",
        faults.only(faults.forgets_past, faults.in_clips_over(8)),
        "stream-by-block",
        CARRYING,
        EVERYWHERE,
    ),
    Kind(
        "stream state not read after the window wrapped",
        faults.only(faults.ignores_stream_state, faults.in_streams_after(6)),
        "stream-by-block",
        CARRYING,
        EVERYWHERE,
    ),
    Kind(
        "stream state shifted after the window wrapped",
        faults.only(faults.state_shifted, faults.in_streams_after(6)),
        "stream-by-block",
        CARRYING,
        ("svd", "wan", "sana"),
    ),
    Kind("future, in streams", faults.only(faults.sees_future, faults.in_streams), "stream-in-chunks", CARRYING),
    Kind("stream state not read in chunks of 2", faults.only(faults.ignores_stream_state, faults.in_chunks_of(2)), "stream-in-chunks", CARRYING, EVERYWHERE),
    Kind("stream state not read in chunks of 3", faults.only(faults.ignores_stream_state, faults.in_chunks_of(3)), "stream-in-chunks", CARRYING, ("svd", "wan", "sana")),
    Kind("stream state not read in the second clip", faults.in_second_clip(faults.ignores_stream_state), "stream-by-block", CARRYING, ("svd", "wan", "sana")),
)  # fmt: skip
# Modules that are no sites and do not mix frames.
PLAIN = {
    "svd": ("conv_in", "down_blocks.0.resnets.0.spatial_res_block.norm1", "conv_out"),
    "wan": ("patch_embedding", "blocks.0.ffn", "blocks.1.norm3"),
    "cogvideox": ("patch_embed", "transformer_blocks.0.ff", "norm_final"),
    "sana": ("patch_embedding", "transformer_blocks.1.ff.conv_depth"),
    "i2vgen": ("conv_in", "mid_block.resnets.0.norm1", "conv_norm_out"),
    "hunyuan": ("x_embedder", "single_transformer_blocks.0.norm"),
    "ltx": ("proj_in", "transformer_blocks.1.ff"),
}
MODULES = (
    ("module leaks the next frame", faults.leaks_next_frame, "causal", 3),
    ("norm over the clip, outside of the sites", faults.normalises_over_clip, "causal", 1),
    ("norm over the batch, outside of the sites", faults.normalises_over_batch, "batch-independent", 1),
    ("not deterministic, outside of the sites", faults.adds_noise, "deterministic", 1),
    ("previous call leaks, outside of the sites", faults.leaks_previous_call, "deterministic", 1),
    (
        "module leaks the next frame, above batch 1",
        faults.only(faults.leaks_next_frame, faults.above_batch_one),
        "causal",
        1,
    ),
)
CROSS = {
    "svd": ("down_blocks.0.attentions.0.transformer_blocks.0.attn2",),
    "wan": ("blocks.0.attn2", "blocks.1.attn2"),
    "sana": ("transformer_blocks.1.attn2",),
    "ltx": ("transformer_blocks.0.attn2",),
    "i2vgen": ("mid_block.attentions.0.transformer_blocks.0.attn2",),
}
# World-level faults, and the operation at whose first site the module is to be found; "": between modules.
COUNTS = {"svd": POSITION, "wan": ATTENTION, "cogvideox": ATTENTION, "ltx": ATTENTION}
WORLDS = (
    ("noise level of the next frame", faults.noise_level_of_next_frame, "causal"),
    ("noise level of the previous frame", faults.noise_level_of_previous_frame, "stream-by-block"),
    ("noise level of the first frame", faults.noise_level_of_first_frame, "stream-by-block"),
    ("noise level of another clip", faults.noise_level_of_other_clip, "batch-independent"),
    ("prediction one frame late", faults.output_one_frame_late, "identity"),
    ("prediction of another clip", faults.output_of_other_clip, "batch-independent"),
    ("prediction flipped", faults.output_flipped, "identity"),
)

# Of the world's noise: the models are those in which it shows.
NOISE = (
    ("the opposite is predicted", faults.predicts_the_opposite, "noise-recovered", ("wan", "mochi, as shipped", "ltx")),
    ("output split with the wrong sign", faults.splits_the_opposite, "noise-split", ("wan", "cogvideox", "sana")),
    ("time told backwards", faults.tells_time_backwards, "noise-told", ("wan", "mochi, as shipped", "cogvideox")),
    ("time told in another unit", faults.tells_another_unit, "noise-told", ("sana", "ltx", "i2vgen")),
    ("time told one step late", faults.tells_one_step_late, "noise-told", ("wan", "cogvideox-2b", "hunyuan")),
    ("noise levels that rise", faults.levels_rise, "noise-falls", ("wan", "mochi, as shipped", "cogvideox")),
    ("noise levels that end in noise", faults.levels_end_in_noise, "noise-falls", ("sana", "hunyuan", "cosmos, as shipped")),
    ("noise levels without their shift", faults.levels_without_shift, "noise-told", ("wan", "sana", "hunyuan", "ltx")),
    ("another table of noise", faults.another_table, "noise-added", ("cogvideox", "cogvideox-2b", "latte")),
    ("noise of another scale", faults.noise_of_another_scale, "noise-added", ("wan", "cogvideox", "ltx")),
    ("input of another scale", faults.input_of_another_scale, "noise-added", ("svd", "cosmos, as shipped", "sana")),
    ("frame and noise swapped", faults.swaps_frame_and_noise, "noise-added", ("wan", "mochi, as shipped", "hunyuan")),
    ("another solver", faults.steps_along_a_line, "noise-stepped", ("wan", "sana", "wan, sinks")),
    ("steps one level too far", faults.steps_too_far, "noise-stepped", ("cogvideox", "ltx", "hunyuan")),
    ("a multistep solver that remembers nothing", faults.remembers_nothing, "noise-stepped", ("wan", "sana")),
)  # fmt: skip


def suite() -> list[Mutation]:
    return [replace(mutation, brief=mutation.kind not in NOT_IN_BRIEF) for mutation in _all()]


def _all() -> Iterator[Mutation]:
    for name in SHIPPED:
        yield Mutation("unbroken", name, "", "", frozenset())
    for name in MODELS:
        yield Mutation("unbroken", name, "", "", frozenset())
    for number, kind in enumerate(SITES):
        for model in _affordable(kind.models, number, 3 if kind.max_sites > 1 else 2):
            for site in chosen(MODELS[model].at(*kind.operations), kind.max_sites, number):
                blamed = frozenset({kind.names or site})
                yield Mutation(kind.name, model, site, kind.claim, blamed, faults.at(site, kind.fault))
    for number, (name, fault, claim, max_sites) in enumerate(MODULES):
        for model in _affordable(PLAIN, number, 3):
            for module in chosen(PLAIN[model], max_sites, number):
                yield live(name, model, module, claim, fault)
    for model, modules in CROSS.items():
        for module in modules:
            yield live(
                "cross-attention sees the next frame's prompt",
                model,
                module,
                "causal",
                faults.leaks_next_prompt,
            )
    for number, (name, broken, claim) in enumerate(WORLDS):
        for model in _affordable(("svd", "wan", "cogvideox", "sana", *BLOCKS), number, 2):
            yield Mutation(name, model, "the world", claim, frozenset({WORLD}), broken)
    for name, broken, claim, models in NOISE:
        for model in models:
            yield Mutation(name, model, "the noise", claim, frozenset(), broken)
    for model in ("wan", "cogvideox", "sana"):
        first = MODELS[model].at(*CARRYING)[0]
        yield Mutation(
            "no site sees its past",
            model,
            "all",
            "receptive-field",
            frozenset({first}),
            faults.all_sites_forget_past,
        )
        yield Mutation(
            "no gradient to the text",
            model,
            "text",
            "gradients-receptive-field",
            frozenset({WORLD}),
            faults.condition_without_gradient("text"),
        )
    yield from _cursors()
    yield from _conditions()
    yield from _pipeline()
    yield from _checkpointing()
    yield from _modes()
    yield from _zero_initialised()
    yield from conditionally_broken()
    yield from changed_folders()
    yield from changed_plans()
    yield from changed_experts()
    yield from changed_rollouts()
    yield from changed_base_calls()
    yield from changed_finetuned()
    yield from changed_by_hand()


def live(kind: str, model: str, site: str, claim: str, fault: Fault) -> Mutation:
    return Mutation(kind, model, site, claim, frozenset({site}), faults.at(site, fault))


def _affordable(models: Iterable[str], number: int, max_sites: int = 9) -> list[str]:
    """Some of the models, in turn; of the slow ones one or none, if there are others."""
    models = list(models)
    slow = ("svd", "", "i2vgen", "animatediff", "", "")[number % 6]
    quick = [model for model in models if model not in SLOW]
    if not quick:
        return models
    begin = number % len(quick)
    return [model for model in models if model == slow] + (quick[begin:] + quick[:begin])[:max_sites]


# Each frame's own picture is chosen by the position in the stream, before the base is called.
PICTURES_BY_FRAME = {"wan", "cogvideox"}


def _cursors() -> Iterator[Mutation]:
    """The first module that uses the position in the stream is named."""
    for model, operation in COUNTS.items():
        first, action = MODELS[model].at(*operation)[0], MODELS[model].at(*ACTION)[0]
        if model in PICTURES_BY_FRAME:
            first = MODEL_FORWARD
        for name, broken, site in (
            ("cursor not advanced", faults.cursor_not_advanced, action),
            ("cursor one block ahead", faults.cursor_one_block_ahead, first),
            ("cursor counts uncommitted passes", faults.cursor_counts_uncommitted_passes, action),
        ):
            yield Mutation(name, model, "the world", "stream-by-block", frozenset({site}), broken)


# The text mask becomes an attention mask on the way: stream and clip first differ in the module that uses it.
TEXT_MASK_USERS = {
    "hunyuan": "context_embedder.token_refiner.refiner_blocks.0.attn",
    "sana": "transformer_blocks.0.attn2",
    "ltx": "transformer_blocks.0.attn2",
}


def _conditions() -> Iterator[Mutation]:
    """Faults through one condition only: every condition of every family."""
    for model in EVERYWHERE:
        for condition, resolved in MODELS[model].resolved.call.conditions.items():
            if 0 in resolved.shape(h=1, w=1):
                continue  # text-to-video: there is no such picture
            for name, fault, claim in (
                ("condition of the next frame", faults.condition_of_next_frame, "causal"),
                ("condition of the first frame", faults.condition_of_first_frame, "stream-by-block"),
                ("condition of another clip", faults.condition_of_other_clip, "batch-independent"),
            )[: 1 if model in SLOW else None]:
                blamed = (
                    TEXT_MASK_USERS[model]
                    if condition == "text_mask" and claim == "stream-by-block"
                    else WORLD
                )
                yield Mutation(name, model, condition, claim, frozenset({blamed}), fault(condition))


def _pipeline() -> Iterator[Mutation]:
    """What the base is given is not what its pipeline gives it: the argument is named."""
    claim = "pipeline-arguments"
    for model, argument in (("kandinsky", "scale_factor"), ("ltx", "rope_interpolation_scale")):
        dropped = faults.argument_dropped(argument)
        yield Mutation("argument dropped", model, argument, claim, frozenset({argument}), dropped)
    guidance = faults.setting_changed("guidance")
    yield Mutation(
        "another guidance", "hunyuan, text to video", "guidance", claim, frozenset({"guidance"}), guidance
    )
    for model in ("wan, with its autoencoder", "hunyuan, with its autoencoder"):
        for name, fault in (
            ("picture of another scale", faults.picture_scaled),
            ("picture given to every frame", faults.picture_to_every_frame),
            ("picture one frame late", faults.picture_one_frame_late),
            ("mask inverted", faults.picture_mask_inverted),
        ):
            yield Mutation(
                name, model, "image_latents", "pipeline-picture", frozenset({"hidden_states"}), fault
            )


def _checkpointing() -> Iterator[Mutation]:
    for number, model in enumerate(("wan", "cogvideox", "sana", "ltx")):
        site = chosen(MODELS[model].at(*CARRYING), 1, number)[0]
        for name, fault in (("future", faults.sees_future), ("past forgotten", faults.forgets_past)):
            kind = f"{name}, under gradient checkpointing"
            broken = faults.under_checkpointing(site, fault)
            yield Mutation(kind, model, site, CHECKPOINTED, frozenset({site}), broken)
            again = faults.only(fault, faults.while_recomputing)
            yield live(f"{name}, while a checkpoint is recomputed", model, site, CHECKPOINTED, again)
        yield live("different in training mode", model, site, CHECKPOINTED, faults.differs_in_training)
        yield live(
            "context lost before recomputation", model, site, CHECKPOINTED, faults.loses_context_after_call
        )


CAUSAL_MODES, PAST_MODES, STREAM_MODES = "causal-modes", "sites-receptive-field-modes", "stream-modes"
TRAINING_EQUAL = "training-equal"
FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16
# Dtypes and modes of rollouts and training, each with a fault that shows only there. Weights are stored in bfloat16.
MODES = (
    ("future, in float32", faults.sees_future, faults.computing_in(FLOAT32), CAUSAL_MODES, MIXING),
    ("future, in float16", faults.sees_future, faults.computing_in(FLOAT16), CAUSAL_MODES, MIXING),
    ("future, in training in float32", faults.sees_future, faults.computing_in(FLOAT32, training=True), CAUSAL_MODES, MIXING),
    ("future, in training under autocast", faults.sees_future, faults.under_autocast(BFLOAT16), CAUSAL_MODES, MIXING),
    ("future, in training under autocast to float16", faults.sees_future, faults.under_autocast(FLOAT16), CAUSAL_MODES, MIXING),
    ("future, in validation under autocast", faults.sees_future, faults.under_autocast(BFLOAT16, training=False), CAUSAL_MODES, MIXING),
    ("future, in training without checkpointing", faults.sees_future, faults.in_training(gradients=True), CAUSAL_MODES, MIXING),
    ("future, in training without gradients", faults.sees_future, faults.in_training(gradients=False), CAUSAL_MODES, MIXING),
    ("past forgotten, in float32", faults.forgets_past, faults.computing_in(FLOAT32), PAST_MODES, CARRYING),
    ("past forgotten, in float16", faults.forgets_past, faults.computing_in(FLOAT16), PAST_MODES, CARRYING),
    ("past forgotten, in training under autocast", faults.forgets_past, faults.under_autocast(BFLOAT16), PAST_MODES, CARRYING),
    ("past forgotten, in training without checkpointing", faults.forgets_past, faults.in_training(gradients=True), TRAINING_EQUAL, CARRYING),
    ("different in training without checkpointing", faults.differs_in_training, faults.in_training(gradients=True), TRAINING_EQUAL, MIXING),
    ("stream state not read, in float32", faults.ignores_stream_state, faults.computing_in(FLOAT32, streaming=True), STREAM_MODES, CARRYING),
    ("stream state shifted, in float32", faults.state_shifted, faults.computing_in(FLOAT32, streaming=True), STREAM_MODES, CARRYING),
    ("newest frame missing in the stream state, in float32", faults.newest_frame_missing, faults.computing_in(FLOAT32), STREAM_MODES, CARRYING),
    ("stream state not read, in float16", faults.ignores_stream_state, faults.computing_in(FLOAT16, streaming=True), STREAM_MODES, CARRYING),
    ("stream state not read, in bfloat16", faults.ignores_stream_state, faults.computing_in(BFLOAT16, streaming=True), STREAM_MODES, ATTENTION),
)  # fmt: skip


# What is left out of the brief mode of large models; the claims that see it otherwise say so.
NOT_IN_BRIEF = {
    *(kind for kind, _, _, claim, _ in MODES if claim == PAST_MODES),
    *(kind for kind, *_ in MODES if "float16" in kind),
    "future, in clips over 32",
    "future, in square pictures",
    "past forgotten, if all frames are clean",
    "past forgotten, if all frames have the largest level",
    "past forgotten, with offset positions",
    "past forgotten, if all actions are dropped",
    "past forgotten, if no action is given",
    "past forgotten, in batches of 8 and more",
    "past forgotten, in pictures over 4 × 8",
    "past forgotten, in clips over 8",
    "past forgotten, in clips over 32",
    "stream state not read after 40 blocks",
    "stream state not read after 1000 blocks",
    "stream state not read in chunks over 16",
    "stream state not read in batches of 8 and more",
    "stream state not read in pictures over 4 × 8",
}


def _modes() -> Iterator[Mutation]:
    for number, (kind, fault, when, claim, operations) in enumerate(MODES):
        having = [model for model in EVERYWHERE if MODELS[model].at(*operations)]
        if kind.endswith("in bfloat16"):  # elsewhere what is lost is smaller than what bfloat16 rounds away
            having = ["wan", "cogvideox"]
        for model in _affordable(having, number, 2):
            for site in chosen(MODELS[model].at(*operations), 1, number):
                yield live(kind, model, site, claim, faults.only(fault, when))


def _zero_initialised() -> Iterator[Mutation]:
    """Faults behind zero-initialised layers."""
    model = "unet-3d, zero-initialised"
    sites = MODELS[model].at(*CONV)
    for conv in ("conv1", "conv2", "conv3"):
        site = next(name for name in sites if f".{conv}." in name and "temp_convs" in name)
        yield live("future, in a branch that starts at zero", model, site, "causal", faults.sees_future)
        yield live(
            "past forgotten, in a branch that starts at zero",
            model,
            site,
            "sites-receptive-field",
            faults.forgets_past,
        )


def each_kind_once(mutations: Iterable[Mutation]) -> list[Mutation]:
    """One model and one site of each kind: the model chosen least often so far, or else the one with the fewest mutations.

    Of the unbroken, all of `MODELS`.
    """
    kinds: dict[str, list[Mutation]] = {}
    mutations = list(mutations)
    rarity = Counter(mutation.model for mutation in mutations)
    for mutation in mutations:
        if mutation.claim or mutation.model in MODELS:
            kinds.setdefault(mutation.kind if mutation.claim else str(mutation), []).append(mutation)
    times: Counter[str] = Counter()
    chosen = []
    for number, found in enumerate(kinds.values()):
        weights = {m.model: (times[m.model] * (4 if m.model in SLOW else 1), rarity[m.model]) for m in found}
        sites = [m for m in found if m.model == min(weights, key=weights.__getitem__)]
        chosen.append(sites[number % len(sites)])
        times[chosen[-1].model] += bool(chosen[-1].claim)
    return chosen


def each_claim_once(mutations: Iterable[Mutation]) -> list[Mutation]:
    """One mutation for each expected claim, with the quick models in turn."""
    claims: dict[str, list[Mutation]] = {}
    for mutation in mutations:
        claims.setdefault(mutation.claim, []).append(mutation)
    chosen = []
    for number, found in enumerate(claims.values()):
        quick = [mutation for mutation in found if mutation.model in QUICK] or found
        chosen.append(quick[number * 7 % len(quick)])
    return chosen


def model_of(mutation: Mutation) -> Model:
    return MODELS.get(mutation.model) or SHIPPED[mutation.model]

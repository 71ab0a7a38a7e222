"""Every broken model: what is broken, where, which claim must catch it, and which module it must name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from tests.mutations import faults
from tests.mutations.faults import Fault
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


@dataclass(frozen=True)
class Kind:
    """A fault of one site. `models`: where; `most`: at how many sites of the first, the middle and the last."""

    name: str
    fault: Fault
    claim: str
    operations: tuple[str, ...]
    models: tuple[str, ...] = ("svd", "wan", "cogvideox", "sana", "i2vgen")
    most: int = 1


EVERYWHERE = ("svd", "wan", "cogvideox", "hunyuan", "sana", "i2vgen", "ltx")
BLOCKS = ("wan, blocks of 2",)
QUICK = [model for model in MODELS if model not in SLOW]
TEXT = ("cogvideox", "hunyuan")
SITES = (
    # the future
    Kind("both-sided convolution", faults.sees_future, "future-unseen", CONV, ("svd", "sana", "i2vgen"), 3),
    Kind("norm over the clip", faults.sees_future, "future-unseen", NORM, ("svd", "i2vgen"), 3),
    Kind("no mask", faults.sees_future, "future-unseen", ATTENDING, (*EVERYWHERE, *BLOCKS), 3),
    Kind(
        "mask one frame too many", faults.one_frame_too_many, "future-unseen", ATTENTION, (*EVERYWHERE, *BLOCKS), 3
    ),
    Kind("text rows see all frames", faults.text_sees_all, "sites-blind-to-future", ATTENTION, TEXT, 3),
    Kind("text seen of later frames", faults.text_sees_text, "future-unseen", ATTENTION, TEXT, 3),
    # the past
    Kind("a site left folded", faults.forgets_past, "sites-see-past", CARRYING, EVERYWHERE, 3),
    Kind("a site never installed", faults.never_installed, "sites-see-past", CARRYING, ("svd", "sana", "i2vgen")),
    Kind("a frame blind to itself", faults.blind_to_itself, "promises", ATTENTION, (*EVERYWHERE, *BLOCKS)),
    Kind("a frame blind to the one before", faults.blind_to_last, "sites-see-past", ATTENTION, EVERYWHERE),
    Kind("window too short", faults.shorter_window, "sites-see-past", ATTENTION, (*EVERYWHERE, *BLOCKS)),
    Kind("window too long", faults.longer_window, "streamed-by-block", ATTENTION, (*EVERYWHERE, *BLOCKS)),
    Kind("sinks lost", faults.no_sinks, "sites-see-past", ATTENTION, ("wan, sinks",), 3),
    # other clips
    Kind("clips taken for one", faults.mixes_clips, "clips-apart", CARRYING, EVERYWHERE),
    Kind("norm over the batch", faults.normalises_batch, "clips-apart", NORM, ("svd", "i2vgen")),
    # a convolution's own
    Kind("another edge before the first frame", faults.holds_or_not, "promises", CONV, ("svd", "sana", "i2vgen")),
    Kind("taps one frame late", faults.reads_late, "promises", CONV, ("svd", "sana", "i2vgen")),
    # what is carried
    Kind("stale stream", faults.stale, "streamed-by-block", CARRYING, (*EVERYWHERE, "wan, sinks", *BLOCKS), 2),
    Kind("stale keys", faults.stale_entry("keys"), "streamed-by-block", ATTENDING, EVERYWHERE),
    Kind("stale values", faults.stale_entry("values"), "streamed-by-block", ATTENTION, ("svd", "wan", "cogvideox")),
    Kind("stale sinks", faults.stale_entry("sink_values"), "streamed-by-block", ATTENTION, ("wan, sinks",), 2),
    Kind("stream shifted", faults.shifted, "streamed-by-block", CARRYING, (*EVERYWHERE, *BLOCKS)),
    Kind("stream entry missing", faults.misses_newest, "streamed-by-block", CARRYING, (*EVERYWHERE, *BLOCKS)),
    Kind("block committed twice", faults.commits_twice, "streamed-by-block", CARRYING, (*EVERYWHERE, *BLOCKS)),
    Kind("clips' streams exchanged", faults.exchanges_clips, "streamed-by-block", CARRYING),
    Kind("uncommitted pass changes the stream", faults.remembers_drafts, "streamed-by-block", CARRYING, EVERYWHERE),
    Kind("uncommitted pass sees no past", faults.stale_in_drafts, "streamed-by-block", CARRYING),
    Kind("committed in place", faults.commits_in_place, "streamed-by-block", CARRYING),
    Kind("stream not read", faults.forgets_stream, "streamed-by-block", CARRYING, EVERYWHERE),
    # positions
    Kind(
        "position one too far",
        faults.one_late,
        "identity",
        POSITION,
        ("svd", "cogvideox-2b", "animatediff"),
        3,
    ),
    Kind(
        "position one too far in streams",
        faults.one_late_in_streams,
        "streamed-by-block",
        POSITION,
        ("svd", "cogvideox-2b", "latte", "animatediff"),
    ),
    Kind(
        "position one too far in streams",
        faults.one_late_in_streams,
        "streamed-by-block",
        ATTENTION,
        ("wan", "cogvideox", "ltx"),
    ),
    Kind("all frames at one position", faults.stands_still, "identity", POSITION, ("svd", "cogvideox-2b", "latte")),
    Kind("offset ignored", faults.ignores_offset, "promises", POSITION, ("svd", "cogvideox-2b", "animatediff")),
    Kind("offset wrong by one", faults.wrong_offset, "promises", POSITION, ("svd", "cogvideox-2b", "animatediff")),
    Kind("wrong rotary frequencies", faults.wrong_frequencies, "identity", ATTENDING, ("wan", "cogvideox", "sana", "ltx", "hunyuan"), 3),
    Kind("no rotation", faults.no_rotation, "identity", ATTENDING, ("wan", "cogvideox", "sana", "ltx", "hunyuan")),
    Kind(
        "wrong rotary frequencies, causally only",
        faults.wrong_frequencies_causally,
        "sites-keep-last",
        ATTENDING,
        ("wan", "cogvideox", "sana", "ltx", "hunyuan"),
    ),
    # actions
    Kind("actions a frame early", faults.acts_early, "action-not-before", ACTION, (*EVERYWHERE, *BLOCKS)),
    Kind("actions a frame late", faults.acts_late, "action-heeded", ACTION, EVERYWHERE),
    Kind("another clip's actions", faults.acts_for_other_clip, "clips-apart", ACTION),
    Kind("actions not heeded", faults.heeds_no_action, "action-heeded", ACTION, EVERYWHERE),
    Kind("no action is the zero action", faults.null_is_zero, "null-is-not-zero", ACTION, EVERYWHERE),
    Kind("dropped actions a frame early", faults.drops_early, "future-unseen", ACTION, ("svd", "wan", "sana")),
    Kind("dropped actions heeded", faults.never_drops, "dropped-is-none", ACTION, ("svd", "wan", "sana")),
    Kind("first action looked at", faults.one_late, "first-action-unread", ACTION, EVERYWHERE),
    Kind("actions lost in streams", faults.ignores_actions_in_streams, "action-moves-next", ACTION, EVERYWHERE),
    # between two passes
    Kind("not deterministic", faults.flickers, "deterministic", MIXING, EVERYWHERE),
    Kind("remembers the last call", faults.remembers_inputs, "deterministic", MIXING, EVERYWHERE),
    Kind("wears out", faults.wears_out, "deterministic", MIXING, ("svd", "wan", "sana")),
    # rarer ones
    Kind("future, above batch 1", faults.only(faults.sees_future, faults.above_batch_one), "future-unseen", MIXING, EVERYWHERE),
    Kind("future, in the second clip", faults.in_second_clip(faults.sees_future), "future-unseen", MIXING, EVERYWHERE),
    Kind(
        "past forgotten, in the second clip",
        faults.in_second_clip(faults.forgets_past),
        "sites-see-past",
        CARRYING,
        ("svd", "wan", "sana"),
    ),
    Kind(
        "future, in bfloat16",
        faults.only(faults.sees_future, faults.in_dtype(torch.bfloat16)),
        "future-unseen-stored",
        MIXING,
        EVERYWHERE,
    ),
    Kind(
        "past forgotten, in bfloat16",
        faults.only(faults.forgets_past, faults.in_dtype(torch.bfloat16)),
        "sites-see-past-stored",
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
        "future, while gradients are taken",
        faults.only(faults.sees_future, faults.training),
        "gradients-not-forward",
        MIXING,
        EVERYWHERE,
    ),
    Kind("future, in clips over 8", faults.only(faults.sees_future, faults.in_clips_over(8)), "future-unseen", MIXING, EVERYWHERE),
    Kind(
        "past forgotten, in clips over 8",
        faults.only(faults.forgets_past, faults.in_clips_over(8)),
        "streamed-by-block",
        CARRYING,
        EVERYWHERE,
    ),
    Kind(
        "stream lost after the window wrapped",
        faults.only(faults.forgets_stream, faults.in_streams_after(6)),
        "streamed-by-block",
        CARRYING,
        EVERYWHERE,
    ),
    Kind(
        "stream shifted after the window wrapped",
        faults.only(faults.shifted, faults.in_streams_after(6)),
        "streamed-by-block",
        CARRYING,
        ("svd", "wan", "sana"),
    ),
    Kind("future, in streams", faults.only(faults.sees_future, faults.in_streams), "streamed-in-chunks", CARRYING),
    Kind("stream lost in chunks of 2", faults.only(faults.forgets_stream, faults.in_chunks_of(2)), "streamed-in-chunks", CARRYING, EVERYWHERE),
    Kind("stream lost in chunks of 3", faults.only(faults.forgets_stream, faults.in_chunks_of(3)), "streamed-in-chunks", CARRYING, ("svd", "wan", "sana")),
    Kind("stale in the second clip", faults.in_second_clip(faults.forgets_stream), "streamed-by-block", CARRYING, ("svd", "wan", "sana")),
)  # fmt: skip
# Modules that are no sites, and have no business with frames.
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
    ("module lets the next frame in", faults.leaks, "future-unseen", 3),
    ("norm over the clip, outside of the sites", faults.normalises_clip, "future-unseen", 1),
    ("norm over the batch, outside of the sites", faults.normalises_batch, "clips-apart", 1),
    ("not deterministic, outside of the sites", faults.flickers, "deterministic", 1),
    ("remembers the last call, outside of the sites", faults.remembers_inputs, "deterministic", 1),
    (
        "module lets the next frame in, above batch 1",
        faults.only(faults.leaks, faults.above_batch_one),
        "future-unseen",
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
    ("noise level of the next frame", faults.noise_of_next, "future-unseen"),
    ("noise level of the frame before", faults.noise_of_last, "streamed-by-block"),
    ("noise level of the first frame", faults.noise_of_first, "streamed-by-block"),
    ("noise level of another clip", faults.noise_of_other_clip, "clips-apart"),
    ("prediction one frame late", faults.output_late, "identity"),
    ("prediction of another clip", faults.output_of_other_clip, "clips-apart"),
    ("prediction upside down", faults.output_upside_down, "identity"),
)


def suite() -> list[Mutation]:
    return list(_all())


def _all() -> Iterator[Mutation]:
    for name in SHIPPED:
        yield Mutation("unbroken", name, "", "", frozenset())
    for name in MODELS:
        yield Mutation("unbroken", name, "", "", frozenset())
    for number, kind in enumerate(SITES):
        for model in _affordable(kind.models, number, 3 if kind.most > 1 else 2):
            for site in chosen(MODELS[model].at(*kind.operations), kind.most, number):
                yield live(kind.name, model, site, kind.claim, kind.fault)
    for number, (name, fault, claim, most) in enumerate(MODULES):
        for model in _affordable(PLAIN, number, 3):
            for module in chosen(PLAIN[model], most, number):
                yield live(name, model, module, claim, fault)
    for model, modules in CROSS.items():
        for module in modules:
            yield live(
                "cross-attention sees the next frame's prompt",
                model,
                module,
                "future-unseen",
                faults.leaks_text,
            )
    for number, (name, broken, claim) in enumerate(WORLDS):
        for model in _affordable(("svd", "wan", "cogvideox", "sana", *BLOCKS), number, 2):
            yield Mutation(name, model, "the world", claim, frozenset({WORLD}), broken)
    for model in ("wan", "cogvideox", "sana"):
        first = MODELS[model].at(*CARRYING)[0]
        yield Mutation(
            "no site sees its past", model, "all", "past-seen", frozenset({first}), faults.all_forget
        )
        yield Mutation(
            "no gradient by the text",
            model,
            "text",
            "gradients-reach-past",
            frozenset({WORLD}),
            faults.detached("text"),
        )
    yield from _cursors()
    yield from _conditions()
    yield from _checkpointing()
    yield from _asleep()
    yield from changed_folders()
    yield from changed_plans()


def live(kind: str, model: str, site: str, claim: str, fault: Fault) -> Mutation:
    return Mutation(kind, model, site, claim, frozenset({site}), faults.at(site, fault))


def _affordable(models: Iterable[str], number: int, most: int = 9) -> list[str]:
    """So many of the models, now these, now those; of the slow ones one, or none, where there are others."""
    models = list(models)
    slow = ("svd", "", "i2vgen", "", "", "")[number % 6]
    quick = [model for model in models if model not in SLOW]
    if not quick:
        return models
    begin = number % len(quick)
    return [model for model in models if model == slow] + (quick[begin:] + quick[:begin])[:most]


def _cursors() -> Iterator[Mutation]:
    """Of the modules that ask where in the stream they are, the first notices."""
    for model, operation in COUNTS.items():
        first, action = MODELS[model].at(*operation)[0], MODELS[model].at(*ACTION)[0]
        for name, broken, site in (
            ("cursor stands still", faults.cursor_stuck, action),
            ("cursor a block ahead", faults.cursor_ahead, first),
            ("uncommitted pass counts", faults.drafts_count, action),
        ):
            yield Mutation(name, model, "the world", "streamed-by-block", frozenset({site}), broken)


# Which tokens are words is made into a mask on the way: a stream and a clip part where that is heeded.
HEEDED = {
    "hunyuan": "context_embedder.token_refiner.refiner_blocks.0.attn",
    "sana": "transformer_blocks.0.attn2",
    "ltx": "transformer_blocks.0.attn2",
}


def _conditions() -> Iterator[Mutation]:
    """Faults through one condition only: each of every family in turn."""
    for model in EVERYWHERE:
        for condition, resolved in MODELS[model].resolved.call.conditions.items():
            if 0 in resolved.shape(h=1, w=1):
                continue  # text-to-video: there is no such picture
            for name, fault, claim in (
                ("condition of the next frame", faults.condition_of_next, "future-unseen"),
                ("condition of the first frame", faults.condition_of_first, "streamed-by-block"),
                ("condition of another clip", faults.condition_of_other_clip, "clips-apart"),
            )[: 1 if model in SLOW else None]:
                blamed = HEEDED[model] if condition == "text_mask" and claim == "streamed-by-block" else WORLD
                yield Mutation(name, model, condition, claim, frozenset({blamed}), fault(condition))


def _checkpointing() -> Iterator[Mutation]:
    for number, model in enumerate(("wan", "cogvideox", "sana", "ltx")):
        site = chosen(MODELS[model].at(*CARRYING), 1, number)[0]
        for name, fault in (("future", faults.sees_future), ("past forgotten", faults.forgets_past)):
            kind = f"{name}, under gradient checkpointing"
            broken = faults.under_checkpointing(site, fault)
            yield Mutation(kind, model, site, CHECKPOINTED, frozenset({site}), broken)
            again = faults.only(fault, faults.recomputing)
            yield live(f"{name}, while a checkpoint is computed again", model, site, CHECKPOINTED, again)
        yield live("other in training", model, site, CHECKPOINTED, faults.differs_in_training)
        yield live("not told of the pass again", model, site, CHECKPOINTED, faults.loses_its_pass)


def _asleep() -> Iterator[Mutation]:
    """What only layers that start at zero let through."""
    model = "unet-3d, asleep"
    sites = MODELS[model].at(*CONV)
    for conv in ("conv1", "conv2", "conv3"):
        site = next(name for name in sites if f".{conv}." in name and "temp_convs" in name)
        yield live(
            "future, in a branch that starts at zero", model, site, "future-unseen", faults.sees_future
        )
        yield live(
            "past forgotten, in a branch that starts at zero",
            model,
            site,
            "sites-see-past",
            faults.forgets_past,
        )


def one_of_each(mutations: Iterable[Mutation], what: Callable[[Mutation], str]) -> list[Mutation]:
    """One mutation of each kind, or for each claim that must catch it, of now this, now that of the quick models."""
    groups: dict[str, list[Mutation]] = {}
    for mutation in mutations:
        groups.setdefault(what(mutation), []).append(mutation)
    chosen = []
    for number, found in enumerate(groups.values()):
        quick = [mutation for mutation in found if mutation.model in QUICK] or found
        chosen.append(quick[number * 7 % len(quick)])
    return chosen


def model_of(mutation: Mutation) -> Model:
    return MODELS.get(mutation.model) or SHIPPED[mutation.model]

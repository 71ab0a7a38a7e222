"""Every broken model: what is broken, where, which claim must catch it, and which module it must name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from tests.mutations import faults, folders
from tests.mutations.faults import Broken, Fault
from tests.mutations.folders import Edit
from tests.mutations.models import MODELS, SHIPPED, Model

WORLD = "the model's own forward"  # what is between modules
CONV, NORM, ATTENTION = ("causal_conv",), ("frame_norm",), ("causal_attention",)
LINEAR, POSITION, ACTION = ("linear_attention",), ("frame_position",), ("action",)
MIXING = CONV + NORM + ATTENTION + LINEAR
CARRYING = CONV + ATTENTION + LINEAR
ATTENDING = ATTENTION + LINEAR
CHECKPOINTED = "checkpointing-same"


@dataclass(frozen=True)
class Mutation:
    """One broken model.

    kind    what is wrong, in words
    model   one of `MODELS`; of `SHIPPED` where nothing is wrong
    site    where it was broken
    claim   the name of the one that must fail; "": none may
    blamed  the modules, tensors or files that this claim must name, no more and no less
    fault   breaks a live world, or
    edit    breaks the converted folder
    """

    kind: str
    model: str
    site: str
    claim: str
    blamed: frozenset[str]
    fault: Broken | None = None
    edit: Edit | None = None

    def __str__(self) -> str:
        return " | ".join(filter(None, (self.kind, self.model, self.site)))


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
    Kind("text seen of later frames", faults.text_sees_text, "sites-blind-to-future", ATTENTION, TEXT, 3),
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
    Kind("committed in place", faults.commits_in_place, "streamed-by-block", CARRYING),
    Kind("stream not read", faults.forgets_stream, "streamed-by-block", CARRYING, EVERYWHERE),
    # positions
    Kind(
        "position one too far",
        faults.one_late,
        "identity",
        POSITION,
        ("svd", "cogvideox-2b", "latte", "animatediff"),
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
    Kind("offset ignored", faults.ignores_offset, "promises", POSITION, ("svd", "cogvideox-2b", "latte", "animatediff")),
    Kind("offset wrong by one", faults.wrong_offset, "promises", POSITION, ("svd", "cogvideox-2b", "latte", "animatediff")),
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
        faults.only(faults.wears_out, faults.in_dtype(torch.bfloat16)),
        "deterministic",
        MIXING,
        ("svd", "wan"),
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
    "sana": ("patch_embed", "transformer_blocks.1.ff.conv_depth"),
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
        for model in kind.models:
            for site in _chosen(MODELS[model].at(*kind.operations), kind.most, number):
                yield live(kind.name, model, site, kind.claim, kind.fault)
    for number, (name, fault, claim, most) in enumerate(MODULES):
        for model, modules in PLAIN.items():
            for module in _chosen(modules, most, number):
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
    for name, broken, claim in WORLDS:
        for model in ("svd", "wan", "cogvideox", "sana", *BLOCKS):
            yield Mutation(name, model, "the world", claim, frozenset({WORLD}), broken)
    yield from _cursors()
    yield from _conditions()
    yield from _checkpointing()
    yield from _asleep()
    yield from _folders()
    yield from _plans()


def live(kind: str, model: str, site: str, claim: str, fault: Fault) -> Mutation:
    return Mutation(kind, model, site, claim, frozenset({site}), faults.at(site, fault))


def _chosen(sites: Iterable[str], most: int, number: int) -> list[str]:
    """The first, the middle and the last; of a kind that is tried at one site only, now this, now that."""
    sites = list(sites)
    some = list(dict.fromkeys([*sites[:1], *sites[len(sites) // 2 :][:1], *sites[-1:]]))
    return some[:most] if most > 1 else some[number % max(len(some), 1) :][:1]


def _cursors() -> Iterator[Mutation]:
    for model, operation in COUNTS.items():
        first, action = MODELS[model].at(*operation)[0], MODELS[model].at(*ACTION)[0]
        yield Mutation(
            "cursor stands still",
            model,
            "the world",
            "streamed-by-block",
            frozenset({action}),
            faults.cursor_stuck,
        )
        for name, broken in (
            ("cursor a block ahead", faults.cursor_ahead),
            ("uncommitted pass counts", faults.drafts_count),
        ):
            yield Mutation(name, model, "the world", "streamed-by-block", frozenset({first}), broken)


def _conditions() -> Iterator[Mutation]:
    """Faults through one condition only: each of every family in turn."""
    for model in EVERYWHERE:
        resolved = MODELS[model].resolved
        for name in resolved.plan.call.given(resolved.config):
            yield Mutation(
                "condition of the next frame",
                model,
                name,
                "future-unseen",
                frozenset({WORLD}),
                faults.condition_of_next(name),
            )
            yield Mutation(
                "condition of the first frame",
                model,
                name,
                "streamed-by-block",
                frozenset({WORLD}),
                faults.condition_of_first(name),
            )
            yield Mutation(
                "condition of another clip",
                model,
                name,
                "clips-apart",
                frozenset({WORLD}),
                faults.condition_of_other_clip(name),
            )


def _checkpointing() -> Iterator[Mutation]:
    for number, model in enumerate(("svd", "wan", "cogvideox", "sana")):
        site = _chosen(MODELS[model].at(*CARRYING), 1, number)[0]
        for name, fault in (("future", faults.sees_future), ("past forgotten", faults.forgets_past)):
            yield Mutation(
                f"{name}, under gradient checkpointing",
                model,
                site,
                CHECKPOINTED,
                frozenset({site}),
                faults.under_checkpointing(site, fault),
            )
            yield live(
                f"{name}, while a checkpoint is computed again",
                model,
                site,
                CHECKPOINTED,
                faults.only(fault, faults.recomputing),
            )


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


def _folders() -> Iterator[Mutation]:
    for model, kept, twins in (
        ("svd", "conv_in.bias", ("conv_norm_out.weight", "conv_norm_out.bias")),
        ("wan", "proj_out.weight", ("blocks.0.attn1.to_q.weight", "blocks.1.attn1.to_q.weight")),
        (
            "sana",
            "proj_out.bias",
            ("transformer_blocks.0.attn1.to_k.weight", "transformer_blocks.1.attn1.to_k.weight"),
        ),
        (
            "cogvideox",
            "proj_out.weight",
            ("transformer_blocks.0.attn1.to_q.weight", "transformer_blocks.0.attn1.to_k.weight"),
        ),
    ):
        family = MODELS[model]
        action = family.at(*ACTION)[0] + ".v2w_action."

        def edited(
            kind: str, site: str, claim: str, edit: Edit, *blamed: str, model: str = model
        ) -> Mutation:
            return Mutation(kind, model, site, claim, frozenset(blamed or {site}), edit=edit)

        yield edited(
            "a tensor one unit in the last place off",
            kept,
            "tensors-kept",
            folders.one(kept, folders.last_place),
        )
        yield edited(
            "a tensor in another dtype", kept, "tensors-kept", folders.one(kept, lambda x: x.float())
        )
        yield edited(
            "a tensor's axes exchanged", twins[0], "tensors-kept", folders.one(twins[0], lambda x: x.flip(0))
        )
        yield edited(
            "tensors exchanged", " and ".join(twins), "tensors-kept", folders.swapped(*twins), *twins
        )
        yield edited(
            "a tensor changed, not owned up to",
            kept,
            "files",
            folders.one(kept, folders.last_place, owned=False),
            "diffusion_pytorch_model.safetensors",
        )
        for site in _chosen(family.at(*CONV), 3, 0) if family.at(*CONV) else []:
            kernel = f"{site}.weight"
            yield edited(
                "a kernel one unit in the last place off",
                kernel,
                "tensors-transferred",
                folders.one(kernel, folders.last_place),
            )
            yield edited(
                "a kernel of the base",
                kernel,
                "tensors-transferred",
                folders.one(kernel, lambda x: x.roll(-1, 2)),
            )
            yield edited(
                "a kernel whose future is back to front",
                kernel,
                "promises",
                folders.one(kernel, lambda x: x.flip(2)),
                site,
            )
        for name in ("first.weight", "none"):
            yield edited(
                "an added tensor one unit in the last place off",
                action + name,
                "tensors-added",
                folders.one(action + name, folders.last_place),
            )
        for name in ("last.weight", "last.bias"):
            yield edited(
                "action layer not zero",
                action + name,
                "actions-unheeded",
                folders.one(action + name, lambda x: x + SMALL),
                action.removesuffix(".v2w_action."),
            )
        yield edited(
            "action layer not zero, by its promise",
            action + "last.bias",
            "promises",
            folders.one(action + "last.bias", lambda x: x + SMALL),
            action.removesuffix(".v2w_action."),
        )
        yield edited(
            "manifest: another seed",
            "v2w.json",
            "tensors-added",
            folders.manifest(seed=1),
            *(action + name for name in ("first.weight", "middle.weight", "none")),
        )
        yield edited(
            "manifest: another number of actions",
            "v2w.json",
            "tensors-complete",
            folders.manifest(action_dim=2),
            *(action + name for name in ("first.weight", "center", "scale")),
        )
        yield edited(
            "manifest: said to be finetuned",
            "v2w.json",
            "action-heeded",
            folders.manifest(stage="finetuned"),
            action.removesuffix(".v2w_action."),
        )
        yield edited(
            "manifest: another fate", kept, "tensors-kept", folders.told("tensors", kept, "transferred")
        )
        yield edited(
            "manifest: another result",
            "diffusion_pytorch_model.safetensors",
            "files",
            folders.told("result", "diffusion_pytorch_model.safetensors", "0" * 64),
        )
        yield edited(
            "manifest: another base",
            "diffusion_pytorch_model.safetensors",
            "base-files",
            folders.other_source,
        )
        yield edited("config not the base's", "sample_size", "config", folders.configured(sample_size=99))


SMALL = 2.0**-10


def _plans() -> Iterator[Mutation]:
    """A manifest whose plan has lost a rule, or says something wrong."""

    def without(kind: str) -> Edit:
        return folders.planned(lambda rules: [rule for rule in rules if kind not in rule])

    def fields(kind: str, change: Callable[[dict], dict]) -> Edit:
        return folders.planned(
            lambda rules: [{k: change(v) if k == kind else v for k, v in rule.items()} for rule in rules]
        )

    def lost(kind: str, model: str) -> Mutation:
        sites = MODELS[model].at(kind)
        return Mutation(
            f"plan without {kind}", model, "v2w.json", "coverage", frozenset(sites), edit=without(kind)
        )

    yield from (lost("causal_conv", model) for model in ("svd", "sana", "i2vgen"))
    yield from (lost("frame_norm", model) for model in ("svd", "i2vgen"))
    yield from (
        lost("causal_attention", model) for model in ("svd", "wan", "cogvideox", "hunyuan", "ltx", "i2vgen")
    )
    yield lost("linear_attention", "sana")
    for model in ("svd", "latte", "cogvideox-2b"):
        first = MODELS[model].at("frame_position")[0]
        yield Mutation(
            "plan without frame_position",
            model,
            "v2w.json",
            "identity",
            frozenset({first}),
            edit=without("frame_position"),
        )
    for model in ("svd", "wan"):
        action = MODELS[model].at("action")[0]
        added = [
            f"{action}.v2w_action.{x}.{y}" for x in ("first", "middle", "last") for y in ("weight", "bias")
        ]
        added += [f"{action}.v2w_action.{x}" for x in ("center", "scale", "none")]
        yield Mutation(
            "plan without action",
            model,
            "v2w.json",
            "tensors-complete",
            frozenset(added),
            edit=without("action"),
        )
    for model in ("wan", "cogvideox", "ltx", "hunyuan"):
        first = frozenset(MODELS[model].at("causal_attention")[:1])
        for name, change in (
            ("plan without rotation", lambda x: x | {"rotary": None}),
            (
                "plan with other frequencies",
                lambda x: x | {"rotary": x["rotary"] | {"scale": 1.01 * x["rotary"]["scale"]}},
            ),
            (
                "plan that turns other channels",
                lambda x: x | {"rotary": x["rotary"] | {"start": x["rotary"]["start"] + 2}},
            ),
        ):
            yield Mutation(
                name, model, "v2w.json", "identity", first, edit=fields("causal_attention", change)
            )
    yield Mutation(
        "plan with the text at the other end",
        "cogvideox",
        "v2w.json",
        "identity",
        frozenset(MODELS["cogvideox"].at("causal_attention")[:1]),
        edit=fields("causal_attention", lambda x: x | {"text": "last"}),
    )
    for model, transfer in (("svd", "extrapolative"), ("sana", "shift"), ("i2vgen", "extrapolative")):
        kernels = frozenset(f"{site}.weight" for site in MODELS[model].at(*CONV))
        yield Mutation(
            "plan with another transfer",
            model,
            "v2w.json",
            "tensors-transferred",
            kernels,
            edit=fields("causal_conv", lambda x, transfer=transfer: x | {"transfer": transfer}),
        )
    for model in ("svd", "sana"):
        sites = MODELS[model].at(*CONV)
        yield Mutation(
            "plan with a rule for the first site only",
            model,
            "v2w.json",
            "coverage",
            frozenset(sites[1:]),
            edit=fields("causal_conv", lambda x, first=sites[0]: x | {"at": first}),
        )


def first_of_each(mutations: Iterable[Mutation]) -> list[Mutation]:
    """One mutation of each kind, of now this, now that of the models on which it is quick."""
    quick = [model for model in MODELS if model not in ("svd", "i2vgen", "animatediff", "unet-3d, asleep")]
    kinds: dict[str, list[Mutation]] = {}
    for mutation in mutations:
        kinds.setdefault(mutation.kind, []).append(mutation)
    chosen = []
    for number, found in enumerate(kinds.values()):
        small = [mutation for mutation in found if mutation.model in quick] or found
        chosen.append(small[number % len(small)])
    return chosen


def model_of(mutation: Mutation) -> Model:
    return MODELS.get(mutation.model) or SHIPPED[mutation.model]

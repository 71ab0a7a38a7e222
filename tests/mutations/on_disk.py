"""Models that are broken on disk: wrong tensors, and wrong manifests."""

from collections.abc import Callable, Iterator

from tests.mutations import folders
from tests.mutations.folders import Edit
from tests.mutations.models import MODELS
from tests.mutations.mutation import ACTION, CONV, SLOW, WORLD, Mutation, chosen

# A kept tensor, and two of one shape, that are not much alike.
TENSORS = {
    "wan": ("proj_out.weight", "blocks.0.attn1.to_q.weight", "blocks.1.attn1.to_q.weight"),
    "sana": (
        "proj_out.bias",
        "transformer_blocks.0.attn1.to_k.weight",
        "transformer_blocks.1.attn1.to_k.weight",
    ),
    "cogvideox": (
        "proj_out.weight",
        "transformer_blocks.0.attn1.to_q.weight",
        "transformer_blocks.0.attn1.to_k.weight",
    ),
}
WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL = 2.0**-10


def changed_folders() -> Iterator[Mutation]:
    """Wrong tensors, and wrong manifests."""
    for model, (kept, a, b) in TENSORS.items():
        (action,) = MODELS[model].at(*ACTION)
        added = [
            f"{action}.v2w_action.{name}" for name in ("first.weight", "none", "last.weight", "last.bias")
        ]
        drawn = {f"{action}.v2w_action.{name}" for name in ("first.weight", "middle.weight", "none")}
        sized = {f"{action}.v2w_action.{name}" for name in ("first.weight", "center", "scale")}
        last_place = folders.one(kept, folders.last_place)
        hash_not_updated = folders.one(kept, folders.last_place, update_hash=False)
        edits: list[tuple[str, str, str, set[str], Edit]] = [
            ("a tensor one unit in the last place off", kept, "tensors-kept", {kept}, last_place),
            (
                "a tensor in another dtype",
                kept,
                "tensors-kept",
                {kept},
                folders.one(kept, lambda x: x.float()),
            ),
            ("a tensor reversed", a, "tensors-kept", {a}, folders.one(a, lambda x: x.flip(0))),
            ("tensors swapped", f"{a}, {b}", "tensors-kept", {a, b}, folders.swapped(a, b)),
            (
                "a tensor changed, its hash not updated",
                kept,
                "files-match-manifest",
                {WEIGHTS},
                hash_not_updated,
            ),
            *(
                (
                    "an added tensor one unit in the last place off",
                    name,
                    "tensors-added",
                    {name},
                    folders.one(name, folders.last_place),
                )
                for name in added[:2]
            ),
            *(
                (
                    "action layer not zero",
                    name,
                    "invariants" if name.endswith("bias") else "actions-no-effect-before-training",
                    {action},
                    folders.one(name, lambda x: x + SMALL),
                )
                for name in added[2:]
            ),
            ("manifest: another seed", "v2w.json", "tensors-added", drawn, folders.manifest(seed=1)),
            (
                "manifest: another number of actions",
                "v2w.json",
                "tensors-complete",
                sized,
                folders.manifest(action_dim=2),
            ),
            (
                "manifest: stage finetuned",
                "v2w.json",
                "action-has-effect",
                {action},
                folders.manifest(stage="finetuned"),
            ),
            (
                "manifest: another tensor status",
                kept,
                "tensors-kept",
                {kept},
                folders.replaced("tensors", kept, "transferred"),
            ),
            (
                "manifest: another hash",
                WEIGHTS,
                "files-match-manifest",
                {WEIGHTS},
                folders.replaced("result", WEIGHTS, "0" * 64),
            ),
            ("manifest: another base", WEIGHTS, "base-files-match-manifest", {WEIGHTS}, folders.other_source),
            (
                "config not the base's",
                "config.json",
                "config-equals-base",
                {"_diffusers_version"},
                folders.configured(_diffusers_version="0"),
            ),
        ]
        for kind, site, claim, blamed, edit in edits:
            yield Mutation(kind, model, site, claim, frozenset(blamed), edit=edit)
    for model in ("sana", "svd"):
        for number, site in enumerate(chosen(MODELS[model].at(*CONV), 3, 0)):
            kernel = f"{site}.weight"
            for name, change, claim, blamed in (
                (
                    "a kernel one unit in the last place off",
                    folders.last_place,
                    "tensors-transferred",
                    kernel,
                ),
                ("a kernel of the base", lambda x: x.roll(-1, 2), "tensors-transferred", kernel),
                ("a kernel reversed", lambda x: x.flip(2), "invariants", site),
            )[number : number + 1 if model in SLOW else None]:
                yield Mutation(
                    name, model, kernel, claim, frozenset({blamed}), edit=folders.one(kernel, change)
                )


def changed_plans() -> Iterator[Mutation]:
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
        lost("causal_attention", model)
        for model in (
            "wan",
            "cogvideox",
            "hunyuan",
            "ltx",
        )  # svd's is refused: its positions are periodic
    )
    yield lost("linear_attention", "sana")
    yield Mutation(
        "plan without first_frame",
        "i2vgen",
        "v2w.json",
        "identity",
        frozenset({"image_latents_context_embedding.0"}),
        edit=without("first_frame"),
    )
    yield Mutation(
        "a window longer than the base's table of positions",
        "wan",
        "v2w.json",
        "forward-runs",
        frozenset({WORLD}),
        edit=fields("causal_attention", lambda rule: rule | {"window": 40}),
    )
    encoder = "image_latents_temporal_encoder.attn1"
    yield Mutation(
        "plan without the site of a condition's frames",
        "i2vgen",
        "v2w.json",
        "coverage",
        frozenset({encoder}),
        edit=folders.planned(
            lambda rules: [
                rule for rule in rules if encoder not in (entry.get("at") for entry in rule.values())
            ]
        ),
    )
    for model in ("svd", "latte", "cogvideox-2b"):
        # Latte's is a block that receives tokens with positions: the first module that receives them is named.
        first = MODELS[model].at("frame_position")[0] + (".norm1" if model == "latte" else "")
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
                "plan that rotates other channels",
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
    for model, transfer in (("svd", "extrapolative"), ("sana", "extrapolative"), ("i2vgen", "extrapolative")):
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

"""Folders that were edited by hand, with hashes to match: stored conditions, the plan, files beside the denoiser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.mutations import folders
from tests.mutations.folders import Edit
from tests.mutations.mutation import Mutation


def condition(name: str, change: Callable[[Tensor], Tensor]) -> Edit:
    def edit(found: dict[str, Tensor]) -> None:
        found[name] = change(found[name])

    return folders.conditions(edit)


def _without(name: str) -> folders.Change:
    def change(found: dict[str, Tensor]) -> None:
        del found[name]

    return change


def plan(**entries: Any) -> Edit:
    def edit(folder: Path) -> None:
        folders.manifest(plan=folders.record(folder)["plan"] | entries)(folder)

    return edit


def scheduler(**entries: Any) -> Edit:
    """Another noise in the manifest's plan."""

    def edit(folder: Path) -> None:
        noise = folders.record(folder)["plan"]["noise"]
        plan(noise=noise | {"scheduler": noise["scheduler"] | entries})(folder)

    return edit


def window(frames: int) -> Edit:
    return folders.planned(
        lambda rules: [
            {
                kind: fields | ({"window": frames} if "window" in fields else {})
                for kind, fields in rule.items()
            }
            for rule in rules
        ]
    )


def changed_by_hand() -> Iterator[Mutation]:
    for model, name in (
        ("wan", "text"),
        ("wan", "image_embeds"),
        ("svd", "added_time_ids"),
        ("hunyuan, text to video", "guidance"),
    ):
        edit = condition(name, lambda x: x + 1)
        yield Mutation("a stored null altered", model, name, "stored-nulls", frozenset({name}), edit=edit)
    missing = folders.conditions(_without("text_mask"))
    yield Mutation(
        "a stored null missing", "sana", "text_mask", "stored-nulls", frozenset({"text_mask"}), edit=missing
    )
    attention = "causal_attention at blocks.*.attn1.window"
    for kind, model, field, edit in (
        ("plan with another window", "wan, as shipped", attention, window(8)),
        ("plan with another shift of noise", "wan, as shipped", "noise.scheduler.flow_shift", scheduler(flow_shift=5.0)),
        ("plan with another number of timesteps", "latte, as shipped", "noise.scheduler.num_train_timesteps", scheduler(num_train_timesteps=999)),
        ("plan with blocks", "wan, as shipped", "frames_per_block", plan(frames_per_block=3)),
    ):  # fmt: skip
        yield Mutation(kind, model, "v2w.json", "edits", frozenset({field}), edit=edit)
    given = folders.replaced("conditions", "text", "file")
    yield Mutation(
        "manifest: a condition from a file",
        "sana",
        "text",
        "edits",
        frozenset({"conditions: text"}),
        edit=given,
    )
    model, file = "wan, with its autoencoder", "vae/config.json"
    yield Mutation(
        "latents of another scale", model, file, "copies-equal-base", frozenset({file}),
        edit=folders.beside(file, latents_std=[2.0] * 4),
    )  # fmt: skip

"""Finetuned models: an unbroken one, and some whose weights or action layers are not what training leaves."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.mutations import folders
from tests.mutations.folders import Edit
from tests.mutations.models import MODELS
from tests.mutations.mutation import ACTION, Mutation

MEAN, STD = [0.5, -1.0, 3.0], [0.25, 2.0, 1.0]
ACTIONS: dict[str, Any] = {
    "count": 100,
    "mean": MEAN,
    "std": STD,
    "min": [0.0, -4.0, 1.0],
    "max": [1.0, 4.0, 5.0],
}
CONSTANT = ACTIONS | {"std": [0.25, 0.0, 1.0], "min": [0.0, -1.0, 1.0], "max": [1.0, -1.0, 5.0]}
KEPT = {"wan": "blocks.0.ffn.net.0.proj.weight", "sana": "transformer_blocks.1.attn1.to_k.weight"}

Change = Callable[[Tensor], Tensor]


def finetuned(
    action: str, changes: dict[str, Change] | None = None, statistics: dict[str, Any] | None = ACTIONS
) -> Edit:
    """As if trained: every weight a little other, actions normalised, the action's last layer no longer zero.

    Args:
        action: The site that embeds actions.
        changes: Then these tensors are changed.
        statistics: Of the actions, for the manifest; None: the record of an older version.
    """
    std = (statistics or ACTIONS)["std"]
    set_by_data = {
        f"{action}.v2w_action.center": torch.tensor(MEAN),
        f"{action}.v2w_action.scale": torch.tensor([x or 1.0 for x in std]),
    }

    def train(found: dict[str, Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        for name, tensor in found.items():
            noise = torch.randn(tensor.shape, generator=generator).to(tensor)
            size = float(tensor.float().std()) if tensor.numel() > 1 else 1.0
            found[name] = (
                set_by_data[name].to(tensor) if name in set_by_data else tensor + 0.02 * (size or 1) * noise
            )
            if name in (changes or {}):
                found[name] = (changes or {})[name](found[name].clone())

    def edit(folder: Path) -> None:
        folders.tensors(train)(folder)
        record = {"steps": 1, "actions": statistics} if statistics else {"steps": 1}
        folders.manifest(stage="finetuned", finetuning=record)(folder)

    return edit


def noise(x: Tensor) -> Tensor:
    """Noise of the same size."""
    return (x.float().std() * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).to(x)


def columns_zero(*numbers: int) -> Change:
    def change(x: Tensor) -> Tensor:
        x[:, list(numbers)] = 0
        return x

    return change


def entry(number: int, value: float) -> Change:
    def change(x: Tensor) -> Tensor:
        x[number] = value
        return x

    return change


def changed_finetuned() -> Iterator[Mutation]:
    for model, kept in KEPT.items():
        (action,) = MODELS[model].at(*ACTION)
        first, center, scale = (f"{action}.v2w_action.{name}" for name in ("first.weight", "center", "scale"))
        yield Mutation("unbroken, finetuned", model, "", "", frozenset(), edit=finetuned(action))
        heeded, scaled = "action-numbers-heeded", "actions-scaled-as-data"
        cases: tuple[tuple[str, str, str, set[str], dict[str, Change]], ...] = (
            ("weights replaced by noise", kept, "weights-distance", {kept}, {kept: noise}),
            ("weights all zero", kept, "weights-distance", {kept}, {kept: torch.zeros_like}),
            (
                "an action number without weights",
                first,
                heeded,
                {"action number 2"},
                {first: columns_zero(2)},
            ),
            (
                "two action numbers without weights",
                first,
                heeded,
                {"action number 0", "action number 1"},
                {first: columns_zero(0, 1)},
            ),
            ("actions divided by a million", scale, scaled, {scale}, {scale: lambda x: 1e6 * x}),
            (
                "an action number divided by a million",
                scale,
                heeded,
                {"action number 1"},
                {scale: entry(1, 1e6)},
            ),
            ("actions centred elsewhere", center, scaled, {center}, {center: entry(0, 7.0)}),
        )
        for kind, site, claim, blamed, changes in cases:
            yield Mutation(kind, model, site, claim, frozenset(blamed), edit=finetuned(action, changes))
    (action,) = MODELS["wan"].at(*ACTION)
    first = f"{action}.v2w_action.first.weight"
    yield Mutation(
        "unbroken, finetuned by an older version",
        "wan",
        "",
        "",
        frozenset(),
        edit=finetuned(action, None, None),
    )
    yield Mutation(
        "unbroken, finetuned on data in which an action number never changes",
        "wan",
        "",
        "",
        frozenset(),
        edit=finetuned(action, {first: columns_zero(1)}, CONSTANT),
    )

"""A model with two denoisers, broken in the second only, or in how they are joined."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.mutations import faults, folders
from tests.mutations.faults import Fault, WorldFault
from tests.mutations.folders import Edit
from tests.mutations.models import MODELS
from tests.mutations.mutation import ACTION, ATTENTION, Mutation
from tests.tiny import tiny_model
from v2w_convert.checkpoint.output import sha256
from v2w_convert.world.experts import ExpertsWorld
from v2w_convert.world.model import World

PAIR = "wan, two experts"
SECOND = "transformer_2"
WEIGHTS = "diffusion_pytorch_model.safetensors"
KEPT = "proj_out.weight"


@cache
def _mark() -> Tensor:
    """A tensor that only the second denoiser has."""
    return tiny_model("wan", seed=1).proj_out.bias.detach().to(torch.bfloat16)


def in_second(fault: WorldFault) -> WorldFault:
    """The fault in worlds of the second denoiser only."""

    def broken(world: World) -> None:
        if torch.equal(world.base.proj_out.bias.detach().to(torch.bfloat16), _mark()):  # type: ignore[union-attr,operator,arg-type]
            fault(world)

    return broken


def hashed(name: str, change: Callable[[Path], None]) -> Edit:
    """A file of the folder changed, and its hash in the manifest."""

    def edit(folder: Path) -> None:
        change(folder / name)
        result = folders.record(folder)["result"] | {name: sha256(folder / name)}
        folders.manifest(result=result)(folder)

    return edit


def tensor(file: str, name: str, change: Callable[[Tensor], Tensor]) -> Edit:
    """A tensor of the second denoiser changed."""

    def changed(path: Path) -> None:
        found = load_file(path)
        found[name] = change(found[name].clone())
        save_file(found, path, {"format": "pt"})

    return hashed(f"{SECOND}/{file}", changed)


def configured(file: str, **entries: Any) -> Edit:
    return hashed(
        file, lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | entries)) and None
    )


def second_recorded(**entries: dict[str, Any]) -> Edit:
    """Other names in the manifest's entries of the second denoiser."""

    def edit(folder: Path) -> None:
        low = folders.record(folder)["low_noise"]
        folders.manifest(low_noise=low | {key: low[key] | new for key, new in entries.items()})(folder)

    return edit


def another_boundary(folder: Path) -> None:
    low = folders.record(folder)["low_noise"]
    folders.manifest(low_noise=low | {"boundary": 0.5})(folder)
    configured("model_index.json", boundary_ratio=0.5)(folder)


def _first_state_only(self: ExpertsWorld, state: Any, *args: Any, commit: bool = False, **kwargs: Any) -> Any:
    output, after = FORWARD_STREAMED(self, state, *args, commit=commit, **kwargs)
    kept = {name: state.sites[name] if name.startswith("low.") else new for name, new in after.sites.items()}
    return output, after._replace(sites=kept) if commit else after


FORWARD_STREAMED = ExpertsWorld.forward_streamed


def changed_experts() -> Iterator[Mutation]:
    """Each fault is in the second denoiser alone, whose claims must say so; or between the two."""
    (action,) = MODELS[PAIR].at(*ACTION)
    added = f"{action}.v2w_action.first.weight"
    site = MODELS[PAIR].at(*ATTENTION)[-1]
    edits: tuple[tuple[str, str, str, set[str], Edit], ...] = (
        (
            "a tensor of the second denoiser one unit in the last place off",
            KEPT,
            "tensors-kept",
            {f"low: {KEPT}"},
            tensor(WEIGHTS, KEPT, folders.last_place),
        ),
        (
            "an added tensor of the second denoiser one unit in the last place off",
            added,
            "tensors-added",
            {f"low: {added}"},
            tensor("v2w_added.safetensors", added, folders.last_place),
        ),
        (
            "the second denoiser's config not the base's",
            "config.json",
            "config-equals-base",
            {"low: _diffusers_version"},
            configured(f"{SECOND}/config.json", _diffusers_version="0"),
        ),
        (
            "manifest: another base of the second denoiser",
            WEIGHTS,
            "base-files-match-manifest",
            {f"low: {WEIGHTS}"},
            second_recorded(files={WEIGHTS: "0" * 64}),
        ),
        (
            "manifest: another tensor status in the second denoiser",
            KEPT,
            "tensors-kept",
            {f"low: {KEPT}"},
            second_recorded(tensors={KEPT: "transferred"}),
        ),
        (
            "manifest: another hash of the second denoiser",
            WEIGHTS,
            "files-match-manifest",
            {f"{SECOND}/{WEIGHTS}"},
            folders.replaced("result", f"{SECOND}/{WEIGHTS}", "0" * 64),
        ),
        ("another boundary than the base's", "model_index.json", "experts-boundary", set(), another_boundary),
    )
    for kind, where, claim, blamed, edit in edits:
        yield Mutation(kind, PAIR, where, claim, frozenset(blamed), edit=edit)
    live: tuple[tuple[str, Fault, str], ...] = (
        ("future, in the second denoiser", faults.sees_future, "causal"),
        ("past forgotten, in the second denoiser", faults.forgets_past, "sites-receptive-field"),
        ("stream state never updated, in the second denoiser", faults.state_never_updated, "stream-by-block"),
    )
    for kind, fault, claim in live:
        broken = in_second(faults.at(site, fault))
        yield Mutation(kind, PAIR, site, claim, frozenset({f"low: {site}"}), broken)
    joins: tuple[tuple[str, str, dict[str, Callable[..., Any]]], ...] = (
        ("denoisers swapped", "experts-boundary", {"is_high": lambda self, level: level < self.boundary}),
        (
            "boundary level in the lower range",
            "experts-boundary",
            {"is_high": lambda self, level: level > self.boundary},
        ),
        ("one denoiser at every level", "experts-in-range", {"is_high": lambda self, level: level >= 0}),
        ("history in one state only", "experts-stream", {"forward_streamed": _first_state_only}),
    )
    for kind, claim, methods in joins:
        yield Mutation(kind, PAIR, "both", claim, frozenset(), program={ExpertsWorld: methods})

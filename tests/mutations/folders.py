"""Ways to break a converted model on disk: its tensors, its manifest, its config."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from v2w_convert.checkpoint.output import sha256

Edit = Callable[[Path], None]  # of a copy of the converted folder
Change = Callable[[dict[str, Tensor]], None]  # of all tensors in one file


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "v2w.json").read_text())


def copied(source: Path, target: Path, edit: Edit) -> Path:
    shutil.copytree(source, target)
    edit(target)
    return target


def manifest(**entries: Any) -> Edit:
    """Other entries in the manifest."""

    def edit(folder: Path) -> None:
        (folder / "v2w.json").write_text(json.dumps(record(folder) | entries))

    return edit


def replaced(entry: str, name: str, value: str) -> Edit:
    """Another value for one name within an entry of the manifest."""
    return lambda folder: manifest(**{entry: record(folder)[entry] | {name: value}})(folder)


def other_source(folder: Path) -> None:
    """A manifest with another base."""
    source = record(folder)["source"]
    manifest(source=source | {"files": dict.fromkeys(source["files"], "0" * 64)})(folder)


def planned(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Edit:
    """A plan with other rules in the manifest."""

    def edit(folder: Path) -> None:
        plan = record(folder)["plan"]
        manifest(plan=plan | {"operations": change(plan["operations"])})(folder)

    return edit


def tensors(change: Change, update_hash: bool = True) -> Edit:
    """Other tensors, and their hash in the manifest unless `update_hash` is False."""

    def edit(folder: Path) -> None:
        result = record(folder)["result"]
        for name in result:
            if not name.endswith(".safetensors") or name == "conditions.safetensors":
                continue
            found = load_file(folder / name)
            before = dict(found)
            change(found)
            if (
                all(found.get(key) is value for key, value in before.items())
                and found.keys() == before.keys()
            ):
                continue
            save_file(
                {key: value.contiguous() for key, value in found.items()}, folder / name, {"format": "pt"}
            )
            if update_hash:
                result[name] = sha256(folder / name)
        manifest(result=result)(folder)

    return edit


def one(name: str, change: Callable[[Tensor], Tensor], update_hash: bool = True) -> Edit:
    """One tensor changed."""

    def changed(found: dict[str, Tensor]) -> None:
        if name in found:
            found[name] = change(found[name].clone())

    return tensors(changed, update_hash)


def swapped(a: str, b: str) -> Edit:
    def swap(found: dict[str, Tensor]) -> None:
        if a in found:
            found[a], found[b] = found[b].clone(), found[a].clone()

    return tensors(swap)


def last_place(x: Tensor) -> Tensor:
    """The middle number, a unit in the last place larger."""
    bits = x.flatten().view({2: torch.int16, 4: torch.int32}[x.element_size()])
    bits[len(bits) // 2] += 1
    return bits.view(x.dtype).view(x.shape)


def configured(**entries: Any) -> Edit:
    """Other entries in config.json, and its hash in the manifest."""

    def edit(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))
        result = record(folder)["result"]
        if "config.json" in result:
            result["config.json"] = sha256(file)
        manifest(result=result)(folder)

    return edit


def conditions(change: Change) -> Edit:
    """Other stored conditions, and their hash in the manifest."""

    def edit(folder: Path) -> None:
        file = folder / "conditions.safetensors"
        found = load_file(file)
        change(found)
        save_file(found, file)
        replaced("result", file.name, sha256(file))(folder)

    return edit


def beside(name: str, **entries: Any) -> Edit:
    """Other entries in a JSON file beside the denoiser, and its hash in the manifest."""

    def edit(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))
        replaced("result", name, sha256(file))(folder)

    return edit

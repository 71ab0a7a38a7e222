"""A checkpoint in a folder that diffusers' save_pretrained wrote: a pipeline or a bare model."""

import os
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path

from v2w_convert.checkpoint.headers import TensorInfo, read_header
from v2w_convert.checkpoint.source import COMPONENTS, MANIFEST, WEIGHTS, Source
from v2w_convert.checkpoint.strict_json import read_object
from v2w_convert.errors import V2WError

WEIGHTS_PREFIXES = ("diffusion_pytorch_model", "diffusion_flax_model")
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.safetensors", re.ASCII)
CODE = {
    "auto_map",
    "custom_pipeline",
}  # entries of config.json that make loaders run code from the checkpoint


def open_folder(folder: Path, asked: str) -> Source:
    """The checkpoint in a pipeline or model folder. Raises as `open_source` does."""
    component = _find_component(folder, asked)
    model = folder / component
    config = read_object(model / "config.json")
    if not isinstance(config.get("_class_name"), str):
        raise V2WError(
            asked,
            f"{model / 'config.json'} has no _class_name; it has {_few(list(config))}",
            "a folder that diffusers' save_pretrained wrote",
        )
    if foreign := sorted(CODE & config.keys()):
        raise V2WError(
            asked,
            f"{model / 'config.json'} has {', '.join(foreign)}: the checkpoint brings its own code, which v2w never runs",
            "a model of a class that diffusers has",
        )
    weights = _find_weights(model, asked)
    tensors, notes = _read_shards(weights, asked) if weights.suffix == ".json" else (read_header(weights), [])
    files = sorted({info.file for info in tensors.values()})
    if not files:
        raise V2WError(asked, f"{weights} holds no tensor")
    for file in (weights, *files):
        if _is_link_out(file, folder):
            raise V2WError(
                asked, f"{file} is a link to {os.path.realpath(file)}", "copy the file itself there"
            )
    others, linked = _find_others(folder, model, files)
    aside = [path.name for path in _list(model) if path.name.startswith(WEIGHTS_PREFIXES)]
    aside = [name for name in aside if name != weights.name and model / name not in files]
    if aside:
        notes.append(f"{weights.name} is read; {_few(aside)} ignored")
    if linked:
        notes.append(f"links are not followed: {_few(linked)} ignored")

    scheduler = folder / "scheduler" / "scheduler_config.json"
    return Source(
        folder=folder,
        component=component,
        config=config,
        tensors=tensors,
        scheduler=read_object(scheduler) if component and scheduler.exists() else None,
        files=tuple(files),
        others=tuple(others),
        converted=(folder / MANIFEST).exists(),
        notes=tuple(notes),
    )


def _find_component(folder: Path, asked: str) -> str:
    if not folder.exists():
        raise V2WError(asked, "no such folder or file")
    if (folder / "model_index.json").exists():
        components = [name for name in COMPONENTS if (folder / name / "config.json").exists()]
        if len(components) > 1:
            raise V2WError(asked, f"both {' and '.join(components)} exist", "one of these folders")
        if components:
            return components[0]
    if (folder / "config.json").exists():
        return ""
    raise V2WError(
        asked,
        f"neither a pipeline (model_index.json and unet/ or transformer/ with config.json) nor a model "
        f"(config.json and weights); it has {_few(_names(folder))}",
        "a folder that diffusers' save_pretrained wrote",
    )


def _find_weights(model: Path, asked: str) -> Path:
    """The weight file, or the index of the shards. A dangling link counts: it is refused on reading."""
    for name in WEIGHTS:
        if os.path.lexists(model / name):
            return model / name
    pickles = [path.name for path in _list(model) if path.suffix in PICKLES]
    if pickles:
        raise V2WError(
            asked,
            f"the weights exist only as a pickle ({_few(pickles)}), which can execute code when loaded",
            "a safetensors version, as diffusers' save_pretrained writes it",
        )
    raise V2WError(asked, f"no {WEIGHTS[1]} in {model}; it has {_few(_names(model))}")


def _read_shards(index_file: Path, asked: str) -> tuple[dict[str, TensorInfo], list[str]]:
    """The tensors of all shards that the index names, and notes on harmless oddities."""
    index = read_object(index_file)
    shard_of = index.get("weight_map")
    if not isinstance(shard_of, dict):
        raise V2WError(f"read {index_file}", "no weight_map", "download or save the file again")
    # Names from a file may point anywhere: only plain names of files beside the index are followed.
    bad = [
        f"{key:.200}: {reprlib.repr(shard)} is not a plain name of a safetensors file"
        for key, shard in shard_of.items()
        if not (isinstance(shard, str) and SHARD_NAME.fullmatch(shard))
    ]
    if bad:
        raise V2WError(f"read {index_file}", _first(bad))
    shards = sorted(set(shard_of.values()))
    missing = [shard for shard in shards if not os.path.lexists(index_file.with_name(shard))]
    if missing:
        complete = [
            name for name in WEIGHTS if not name.endswith(".json") and index_file.with_name(name).exists()
        ]
        raise V2WError(
            asked,
            f"{len(missing)} of {len(shards)} shards are missing: {', '.join(missing)}",
            f"delete the index, if {complete[0]} is the model" if complete else "download the folder again",
        )
    tensors: dict[str, TensorInfo] = {}
    faults = []
    for shard in shards:
        file = index_file.with_name(shard)
        for key, info in read_header(file).items():
            if key in tensors:
                faults.append(f"{key} is in two shards, {tensors[key].file.name} and {shard}")
            elif key not in shard_of:
                faults.append(f"{key} is in {shard} but not in the index")
            tensors[key] = info
    for key, shard in shard_of.items():
        if key not in tensors:
            faults.append(f"{key} is in the index but not in {shard}")
        elif tensors[key].file.name != shard:
            faults.append(f"{key} is in {tensors[key].file.name}, but the index says {shard}")
    if faults:
        raise V2WError(f"read {index_file}", _first(faults), "download the index and the shards again")

    size = sum(info.stop - info.start for info in tensors.values())
    metadata = index.get("metadata")
    stated = metadata.get("total_size", size) if isinstance(metadata, dict) else size
    notes = [f"{index_file.name} says {stated} bytes, the shards hold {size}"] if stated != size else []
    return tensors, notes


def _find_others(folder: Path, model: Path, files: list[Path]) -> tuple[list[Path], list[str]]:
    """Other files to copy, relative to `folder`; and links that are not followed."""
    own = {model / "config.json", *files}
    others, linked = [], []
    for path in _walk(folder):
        relative = path.relative_to(folder)
        if path in own or (path.parent == model and path.name.startswith(WEIGHTS_PREFIXES)):
            continue
        if path.is_symlink() and (path.is_dir() or not path.exists() or _is_link_out(path, folder)):
            linked.append(str(relative))
        elif path.is_file():
            others.append(relative)
    return others, linked


def _walk(folder: Path) -> Iterator[Path]:
    """Every path below `folder` that is not a folder itself, in order, without the hidden ones."""
    waiting = [folder]  # not by recursion: folders may be nested more deeply than calls
    while waiting:
        path = waiting.pop()
        if path == folder or (path.is_dir() and not path.is_symlink()):
            waiting += reversed(_list(path))
        else:
            yield path


def _list(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _names(folder: Path) -> list[str]:
    return [path.name + "/" if path.is_dir() else path.name for path in _list(folder)]


def _is_link_out(file: Path, folder: Path) -> bool:
    """Whether `file` resolves to a place outside `folder`. The Hub cache links `snapshots/REVISION` to `blobs`; that is allowed."""
    target, root = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    blobs = [parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots"]
    return not any(target.is_relative_to(home) for home in (root, *blobs))


def _few(names: list[str]) -> str:
    return ", ".join(f"{name:.200}" for name in _first(names)) or "nothing"


def _first(faults: list[str], count: int = 8) -> list[str]:
    return faults[:count] + ([f"and {len(faults) - count} more"] if len(faults) > count else [])

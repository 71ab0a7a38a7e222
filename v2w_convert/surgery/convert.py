"""Perform a plan on checkpoint files: one tensor at a time, into a new folder, all or nothing."""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.output import copy, sha256, staged, write_safetensors
from v2w_convert.checkpoint.source import Source, read_tensor
from v2w_convert.errors import V2WError
from v2w_convert.plan.resolve import Resolved, build
from v2w_convert.surgery.card import write_card
from v2w_convert.surgery.change import Fate, added, initial, owner, transferred
from v2w_convert.surgery.conditions import stored_conditions
from v2w_convert.surgery.manifest import CONDITIONS, Manifest
from v2w_convert.surgery.pipeline import FILE, check_autoencoder, write_json, write_pipeline

STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CODES = {dtype: code for code, dtype in STORED.items()}
ADDED = "v2w_added.safetensors"


def meta_base(resolved: Resolved) -> torch.nn.Module:
    with torch.device("meta"):
        return build(resolved.plan.base, resolved.config)


def check_tensors(source: Source, resolved: Resolved) -> None:
    """Raises V2WError unless the files hold exactly the tensors that the config describes."""
    check_autoencoder(source)
    expected = {name: tuple(tensor.shape) for name, tensor in meta_base(resolved).state_dict().items()}
    found = {name: info.shape for name, info in source.tensors.items()}
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is not part of a {resolved.plan.base}" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} is {found[name]}, config.json says {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    faults += [
        f"{name} has dtype {info.dtype}, which surgery cannot compute with"
        for name, info in source.tensors.items()
        if owner(resolved, name) and info.dtype not in STORED
    ]
    if faults:
        more = [f"and {len(faults) - 5} more"] if len(faults) > 5 else []
        raise V2WError(f"read the weights of {source.folder}", sorted(faults)[:5] + more)


def check_actions(resolved: Resolved, action_dim: int) -> None:
    """Raises V2WError if the base was trained with actions of another length."""
    trained = resolved.trained_actions
    if trained not in (None, action_dim):
        raise V2WError(
            f"convert for actions of {action_dim} numbers",
            f"the model was trained with actions of {trained}",
            f"--action-dim {trained}",
        )


def fates(source: Source, resolved: Resolved, action_dim: int) -> dict[str, Fate]:
    """What becomes of every tensor, from headers alone."""
    model = meta_base(resolved)
    changed = {
        name: transferred(resolved, name, torch.zeros(tensor.shape, device="meta")) is not None
        for name, tensor in model.state_dict().items()
    }
    result: dict[str, Fate] = {name: "transferred" if changed[name] else "kept" for name in source.tensors}
    return result | dict.fromkeys(added(resolved, model, action_dim), "added")


def convert(
    source: Source,
    resolved: Resolved,
    output: Path,
    *,
    action_dim: int,
    seed: int = 0,
    conditions: Path | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Manifest:
    """Write the converted model to `output`, which must not exist or be empty.

    Each weight file keeps its name and its tensors' order; added tensors lie in a file of their own beside
    them, and an index names them all. Every other file of a pipeline folder is copied; of a checkpoint that is one
    file a pipeline folder is made. `conditions` is a
    safetensors file of what to give where a caller gives nothing, else the plan's nulls. `progress` is called
    with the name of each tensor written. Raises V2WError before anything is written where the source does
    not fit.
    """
    check_tensors(source, resolved)
    check_actions(resolved, action_dim)
    given = stored_conditions(resolved, conditions)
    model = meta_base(resolved)
    dtype = stored_dtype(source)
    tensors = fates(source, resolved, action_dim)
    with staged(output, source.folder) as stage:
        component = stage / source.component
        component.mkdir(exist_ok=True)
        for relative in source.others:
            (stage / relative).parent.mkdir(parents=True, exist_ok=True)
            copy(source.folder / relative, stage / relative)
        if source.is_file:
            write_pipeline(source, stage)
        placed: dict[str, str] = {}
        for file in source.files:
            infos = [(name, info) for name, info in source.tensors.items() if info.file == file]

            def changed(infos: list = infos) -> Iterator[tuple[str, Tensor]]:
                for name, info in infos:
                    tensor = read_tensor(info)
                    value = transferred(resolved, name, tensor)
                    progress(name)
                    yield name, tensor if value is None else value

            headers = [(name, info.dtype, info.shape) for name, info in infos]
            place = FILE if source.is_file else file.name
            write_safetensors(component / place, changed(), headers, {"format": "pt"})
            placed |= {name: place for name, _ in infos}
        shapes = added(resolved, model, action_dim)
        new = ((name, initial(resolved, name, shape, seed).to(dtype)) for name, shape in shapes.items())
        headers = [(name, CODES[dtype], shape) for name, shape in shapes.items()]
        if shapes:
            write_safetensors(component / ADDED, new, headers, {"format": "pt"})
        placed |= dict.fromkeys(shapes, ADDED)
        write_index(component, placed)
        # diffusers warns of a config entry that it does not know: whoever loads this as the old model is told.
        config = source.config | {"v2w": "a world model: load it with v2w_convert.load"}
        write_json(component / "config.json", config)
        (stage / CONDITIONS).write_bytes(save(given))  # not save_file, whose files nobody else may read
        manifest = Manifest(
            version=version("v2w-convert"),
            stage="converted" if resolved.trained_actions is None else "finetuned",
            component=source.component,
            plan=resolved.plan.model_dump(mode="json"),
            action_dim=action_dim,
            seed=seed,
            source={"name": source.folder.resolve().name, "files": {f.name: sha256(f) for f in source.files}},
            result=hashes(stage, component),
            tensors=tensors,
        )
        write_card(manifest, stage)
        manifest.write(stage)
    return manifest


def hashes(folder: Path, component: Path) -> dict[str, str]:
    """SHA-256 of every file of tensors of the converted model in `folder`, by path within it."""
    files = {folder / CONDITIONS, *component.glob("*.safetensors")}
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(files)}


def write_index(component: Path, placed: dict[str, str]) -> None:
    """The index by which diffusers and v2w find every tensor's file."""
    headers = {
        name: info
        for file in sorted(set(placed.values()))
        for name, info in read_header(component / file).items()
    }
    total = sum(info.stop - info.start for info in headers.values())
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    file = component / "diffusion_pytorch_model.safetensors.index.json"
    file.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def stored_dtype(source: Source) -> torch.dtype:
    """The dtype that most tensors of the checkpoint have; added ones take it."""
    codes = [info.dtype for info in source.tensors.values() if info.dtype in STORED]
    if not codes:
        raise V2WError(f"read the weights of {source.folder}", "no tensor of a floating dtype")
    return STORED[max(set(codes), key=codes.count)]

"""Apply a plan to checkpoint files, one tensor at a time, into a new folder that appears completely or not at all."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.output import check_target
from v2w_convert.checkpoint.output_files import (
    ByteRange,
    Generated,
    Hashes,
    OutputFile,
    copied_file,
    text_file,
    write_file,
    write_files,
)
from v2w_convert.checkpoint.preflight import check_writable
from v2w_convert.checkpoint.resumable import resumable
from v2w_convert.checkpoint.source import WEIGHTS_FILE, WEIGHTS_INDEX, Source, read_tensor
from v2w_convert.checkpoint.unusable import check_precise
from v2w_convert.errors import V2WError
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.card import CARD, card_text
from v2w_convert.surgery.change import (
    TensorStatus,
    added_tensors,
    initial_tensor,
    operation_of_tensor,
    transfer_tensor,
)
from v2w_convert.surgery.conditions import ConditionChoice, choose_conditions
from v2w_convert.surgery.manifest import CONDITIONS, MANIFEST, Manifest, Origin, WeightsChoice
from v2w_convert.surgery.pipeline import (
    check_autoencoder,
    json_text,
    kept_parts,
    pipeline_files,
    weights_file,
)

FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_CODES = {dtype: code for code, dtype in FLOAT_DTYPES.items()}
ADDED_WEIGHTS = "v2w_added.safetensors"


def check_tensors(source: Source, resolved: ResolvedPlan) -> None:
    """Compare the files' tensors with those that the config describes.

    Raises:
        V2WError: Unless the files hold exactly the tensors that the config describes.
    """
    check_precise(source.tensors, f"read the weights of {source.folder}")
    check_autoencoder(source)
    expected = {name: tuple(tensor.shape) for name, tensor in resolved.base.state_dict().items()}
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
        if operation_of_tensor(resolved, name) and info.dtype not in FLOAT_DTYPES
    ]
    if faults:
        more = [f"and {len(faults) - 5} more"] if len(faults) > 5 else []
        raise V2WError(f"read the weights of {source.folder}", sorted(faults)[:5] + more)


def check_actions(resolved: ResolvedPlan, action_dim: int) -> None:
    """Check `action_dim` against the actions that the base was trained with, if any.

    Raises:
        V2WError: If the base was trained with actions of another length.
    """
    trained = resolved.trained_actions
    if trained not in (None, action_dim):
        raise V2WError(
            f"convert for actions of {action_dim} numbers",
            f"the model was trained with actions of {trained}",
            f"--action-dim {trained}",
        )


@dataclass(frozen=True)
class Conversion:
    """Everything that will be written, computed from headers; no weight has been read.

    Attributes:
        items: The files to write, the manifest aside, which names their hashes.
        tensors: What becomes of every tensor.
        manifest: Without hashes.
        stamps: Size, time and number of each file that is read, by which a change in the meantime is noticed.
        notes: What the user should know of the conditions.
    """

    source: Source
    items: tuple[OutputFile, ...]
    tensors: dict[str, TensorStatus]
    manifest: Manifest
    stamps: dict[Path, tuple[int, ...]]
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for two runs that write the same files of the same source."""
        identity = [self.manifest.model_dump(), torch.__version__, [item.describe() for item in self.items]]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def plan_conversion(
    source: Source,
    resolved: ResolvedPlan,
    *,
    action_dim: int,
    seed: int = 0,
    conditions: ConditionChoice = ConditionChoice(),  # noqa: B008 (frozen)
) -> Conversion:
    """What `convert` will write. All faults of the source are found first.

    Raises:
        V2WError: If the source does not fit the plan.
    """
    check_actions(resolved, action_dim)
    check_tensors(source, resolved)
    given = choose_conditions(source, resolved, conditions)
    dtype = stored_dtype(source)
    changed = {
        name
        for name, tensor in resolved.base.state_dict().items()
        if transfer_tensor(resolved, name, torch.empty(tensor.shape, device="meta")) is not None
    }
    shapes = added_tensors(resolved, resolved.base, action_dim)

    def transfer(name: str, info: TensorInfo) -> Any:
        value = transfer_tensor(resolved, name, read_tensor(info))
        assert value is not None, name
        return to_bytes(value, FLOAT_DTYPES[info.dtype], info.shape)

    def draw(name: str) -> Any:
        return to_bytes(initial_tensor(resolved, name, shapes[name], seed).to(dtype), dtype, shapes[name])

    def parts(name: str, info: TensorInfo) -> list[ByteRange | Generated]:
        if name not in changed:
            return kept_parts(name, info)
        return [Generated(info.size, f"{name}, transferred", partial(transfer, name, info), info.file)]

    component = f"{source.component}/" if source.component else ""
    items = [
        copied_file(path.as_posix(), source.folder / path) for path in source.others if path != Path(CARD)
    ]
    if source.pipeline:
        items += pipeline_files(source)
    placed: dict[str, str] = {}
    for file in source.files:
        infos = {name: info for name, info in source.tensors.items() if info.file == file}
        place = WEIGHTS_FILE if len(source.files) == 1 and source.pipeline else f"{file.stem}.safetensors"
        placed |= dict.fromkeys(infos, place)
        as_it_is = place == file.name and not source.renamed
        if as_it_is and not changed & infos.keys():  # one hash, one link will do
            items.append(copied_file(component + place, file))
            continue
        headers = [(name, info.dtype, info.shape) for name, info in infos.items()]
        bytes_of = [part for entry in infos.items() for part in parts(*entry)]
        items.append(weights_file(component + place, headers, bytes_of))
    if shapes:
        headers = [(name, DTYPE_CODES[dtype], shape) for name, shape in shapes.items()]
        new = [
            Generated(math.prod(shape) * dtype.itemsize, f"{name}, added", partial(draw, name))
            for name, shape in shapes.items()
        ]
        items.append(weights_file(component + ADDED_WEIGHTS, headers, new))
        placed |= dict.fromkeys(shapes, ADDED_WEIGHTS)
    # By the index diffusers and v2w find every tensor's file.
    total = sum(info.size for info in source.tensors.values())
    total += sum(math.prod(shape) * dtype.itemsize for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    items.append(text_file(component + WEIGHTS_INDEX, json.dumps(index, indent=1) + "\n"))
    # diffusers warns about unknown config entries, so whoever loads this folder as the base sees a warning.
    config = source.config | {"v2w": "a world model: load it with v2w_convert.load"}
    items.append(text_file(component + "config.json", json_text(config)))
    items.append(text_file(CONDITIONS, save(given.tensors)))
    fates: dict[str, TensorStatus] = {
        name: "transferred" if name in changed else "kept" for name in source.tensors
    }
    manifest = Manifest(
        version=version("v2w-convert"),
        stage="converted" if resolved.trained_actions is None else "finetuned",
        component=source.component,
        plan=resolved.plan.model_dump(mode="json"),
        action_dim=action_dim,
        seed=seed,
        prompt=given.prompt,
        source=_origin(source),
        result={},
        tensors=fates | dict.fromkeys(shapes, "added"),
    )
    items.append(text_file(CARD, card_text(manifest)))
    stamps = {file: file_stamp(file) for item in items for file in item.sources}
    return Conversion(source, tuple(items), manifest.tensors, manifest, stamps, given.notes)


def write_conversion(
    conversion: Conversion,
    output: Path,
    *,
    link: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[Manifest, Hashes]:
    """Write the planned files to `output`, which must not exist or be empty; resume where a killed run stopped.

    Args:
        link: Hard-link untouched components, where the file system can.
        progress: Is called with how many more bytes are in place.

    Raises:
        V2WError: Before anything is written, if disk space or permissions are missing; later, if the disk fails or
            the source changes.
    """
    source, items = conversion.source, conversion.items
    check_target(output, source.folder, f"write {output}")
    check_writable(items, output, link)
    with resumable(output, conversion.key, source.folder) as stage:
        hashes = write_files(items, stage, link=link, progress=progress)
        changed = [str(file) for file, before in conversion.stamps.items() if file_stamp(file) != before]
        if changed:
            raise V2WError(
                f"convert {source.folder}", f"{changed[0]} changed during the conversion", "convert it again"
            )
        origin: Origin = {
            **conversion.manifest.source,
            "files": {file.name: hashes.read[file] for file in source.files},
            "others": {
                item.path: hashes.written[item.path]
                for item in items
                if item.is_copy and item.sources[0] not in source.files
            },  # copies have the hash of what they are copies of
        }
        result = {path: digest for path, digest in sorted(hashes.written.items()) if path != CARD}
        manifest = conversion.manifest.model_copy(update={"source": origin, "result": result})
        write_file(text_file(MANIFEST, manifest.text()), stage.folder)
    return manifest, hashes


def convert(
    source: Source,
    resolved: ResolvedPlan,
    output: Path,
    *,
    action_dim: int,
    seed: int = 0,
    conditions: ConditionChoice = ConditionChoice(),  # noqa: B008 (frozen)
    link: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Write the converted model to `output`, which must not exist or be empty.

    Each weight file keeps its name and its tensors' order, and one of whose tensors none changes is copied as
    it is; added tensors lie in a file of their own beside them, and an index names them all. Every other file
    of a pipeline folder is copied; of a checkpoint that is one file a pipeline folder is made. `conditions`
    says what to give where a caller gives nothing; `link` and `progress` are `perform`'s.

    Raises:
        V2WError: Before anything is written where the source does not fit.
    """
    planned = plan_conversion(source, resolved, action_dim=action_dim, seed=seed, conditions=conditions)
    return write_conversion(planned, output, link=link, progress=progress)[0]


def to_bytes(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Any:
    """The tensor's bytes as stored in a file; an AssertionError if dtype or shape differ from the header."""
    assert (tensor.dtype, tuple(tensor.shape)) == (dtype, tuple(shape)), f"expected {dtype} {shape}"
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def file_stamp(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _origin(source: Source) -> Origin:
    """What is converted, as the manifest names it; hashes are added when the files have been read."""
    origin: Origin = {"name": source_name(source.folder), "files": {}}
    choice: WeightsChoice = {}
    if source.choice.variant is not None:
        choice["variant"] = source.choice.variant
    if source.choice.ema is not None:
        choice["ema"] = source.choice.ema
    return {**origin, "choice": choice} if choice else origin


def source_name(folder: Path) -> str:
    """The source's name: that of the file or folder, or its repository id in the Hub cache."""
    path = Path(os.path.abspath(folder))
    if path.parent.name == "snapshots":
        return f"{path.parent.parent.name.removeprefix('models--').replace('--', '/')} at {path.name[:12]}"
    return path.name


def stored_dtype(source: Source) -> torch.dtype:
    """The most common floating dtype of the checkpoint's tensors, which added tensors take."""
    codes = [info.dtype for info in source.tensors.values() if info.dtype in FLOAT_DTYPES]
    if not codes:
        raise V2WError(f"read the weights of {source.folder}", "no tensor of a floating dtype")
    return FLOAT_DTYPES[max(set(codes), key=codes.count)]

"""Apply a plan to checkpoint files, one tensor at a time, into a new folder that appears completely or not at all."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save

from v2w_convert.checkpoint.digests import known_sha256
from v2w_convert.checkpoint.output import check_target
from v2w_convert.checkpoint.output_files import (
    Hashes,
    OutputFile,
    copied_file,
    text_file,
    write_file,
    write_files,
)
from v2w_convert.checkpoint.preflight import check_writable
from v2w_convert.checkpoint.resumable import resumable
from v2w_convert.checkpoint.source import Source
from v2w_convert.checkpoint.unusable import check_precise
from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.card import CARD, card_text
from v2w_convert.surgery.change import TensorStatus, operation_of_tensor
from v2w_convert.surgery.conditions import ConditionChoice, choose_conditions
from v2w_convert.surgery.manifest import CONDITIONS, MANIFEST, LowNoiseExpert, Manifest, Origin, WeightsChoice
from v2w_convert.surgery.model_files import FLOAT_DTYPES, model_files
from v2w_convert.surgery.pipeline import check_autoencoder, pipeline_files
from v2w_convert.world.experts import require_boundary


def check_tensors(source: Source, resolved: ResolvedPlan) -> None:
    """Compare the files' tensors with those that the config describes.

    Raises:
        V2WError: Unless the files hold exactly the tensors that the config describes.
    """
    for expert in source.experts.values():
        check_precise(expert.tensors, f"read the weights of {source.folder}")
    check_autoencoder(source)
    for expert in source.experts.values():
        faults = _tensor_faults(expert, resolved)
        if faults:
            folder = source.folder / expert.component if source.low_noise else source.folder
            more = [f"and {len(faults) - 5} more"] if len(faults) > 5 else []
            raise V2WError(f"read the weights of {folder}", sorted(faults)[:5] + more)


def _tensor_faults(source: Source, resolved: ResolvedPlan) -> list[str]:
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
    return faults


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
        items: The files to write, the manifest aside, which names their digests.
        manifest: Without digests.
        stamps: Size, time and number of each file that is read, by which a change in the meantime is noticed.
        notes: What the user should know of the conditions.
    """

    source: Source
    items: tuple[OutputFile, ...]
    manifest: Manifest
    stamps: dict[Path, tuple[int, ...]]
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for two runs that write the same files of the same source."""
        identity = [self.manifest.model_dump(), torch.__version__, [item.describe() for item in self.items]]
        return hashlib.sha256(json.dumps(identity, allow_nan=False).encode()).hexdigest()


def plan_conversion(
    source: Source,
    resolved: ResolvedPlan,
    *,
    action_dim: int,
    seed: int = 0,
    conditions: ConditionChoice = ConditionChoice(),  # noqa: B008 (frozen)
    data_view: DataSettings | None = None,
) -> Conversion:
    """What `convert` will write. All faults of the source are found first.

    Raises:
        V2WError: If the source does not fit the plan.
    """
    check_actions(resolved, action_dim)
    check_tensors(source, resolved)
    given = choose_conditions(source, resolved, conditions)
    items = [
        copied_file(path.as_posix(), source.folder / path) for path in source.others if path != Path(CARD)
    ]
    if source.pipeline:
        items += pipeline_files(source)
    tensors: list[dict[str, TensorStatus]] = []
    for expert in source.experts.values():
        files, fates = model_files(expert, resolved, action_dim, seed)
        items += files
        tensors.append(fates)
    low = None
    if source.boundary is not None:
        require_boundary(resolved.noise.build(), source.boundary)
        low = LowNoiseExpert(boundary=source.boundary, files={}, tensors=tensors[1])
    items.append(text_file(CONDITIONS, save(given.tensors)))
    manifest = Manifest(
        version=version("v2w-convert"),
        stage="converted" if resolved.trained_actions is None else "finetuned",
        component=source.component,
        plan=resolved.plan.model_dump(mode="json"),
        action_dim=action_dim,
        seed=seed,
        prompt=given.prompt,
        conditions=given.origins,
        source=_origin(source),
        result={},
        tensors=tensors[0],
        low_noise=low,
        data_view=data_view,
    )
    items.append(text_file(CARD, card_text(manifest)))
    stamps = {file: file_stamp(file) for item in items for file in item.sources}
    return Conversion(source, tuple(items), manifest, stamps, given.notes)


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
        low = conversion.manifest.low_noise
        files = [
            {file.name: hashes.read[file] for file in expert.files} for expert in source.experts.values()
        ]
        weights = {file for expert in source.experts.values() for file in expert.files}
        known = {
            f"{expert.component}/{file.name}" if low else file.name: sha256
            for expert in source.experts.values()
            for file in expert.files
            if (sha256 := known_sha256(file)) is not None
        }
        origin: Origin = {
            **conversion.manifest.source,
            "files": files[0],
            "others": {
                item.path: hashes.written[item.path]
                for item in items
                if item.is_copy and item.sources[0] not in weights
            },  # copies have the hash of what they are copies of
        }
        if known:
            origin["sha256"] = known
        result = {path: digest for path, digest in sorted(hashes.written.items()) if path != CARD}
        low = low and low.model_copy(update={"files": files[1]})
        manifest = conversion.manifest.model_copy(
            update={"source": origin, "result": result, "low_noise": low}
        )
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

"""From where a run is resumed. A checkpoint appears whole or not at all, and is checked before it is used."""

import json
import logging
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from v2w_convert.checkpoint.headers import DTYPES, read_header
from v2w_convert.checkpoint.listing import first
from v2w_convert.checkpoint.output import sha256, staging_folder
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.processes import whole
from v2w_convert.finetuning.room import require_room
from v2w_convert.finetuning.shards import write_tensors
from v2w_convert.finetuning.training import GROWTH, OPTIMIZER, SCALE, Training
from v2w_convert.strict_json import read_object
from v2w_convert.world.finite import is_finite

HASHES = "sha256.json"
NAME = re.compile(r"step-([1-9]\d{0,8})", re.ASCII)

log = logging.getLogger(__name__)


def save(folder: Path, step: int, training: Training, keep: int, main: bool = True) -> None:
    """Write the checkpoint `folder`/step-N; then, and only then, delete all but the newest `keep`.

    Args:
        folder: The checkpoints.
        step: The step.
        training: What is written.
        keep: How many are kept.
        main: Whether this process writes. Where there are several, all must call it: a sharded tensor is put together.

    Raises:
        V2WError: There is no room for it, which is told before it is written, or it cannot be written.
    """
    state = training.state()
    if not main:
        for tensors in state.values():
            whole(tensors)
        return
    size = sum(tensor.nbytes for tensors in state.values() for tensor in tensors.values())
    require_room(folder, size, f"write the checkpoint of step {step}", "space, and the same command again")
    with staging_folder(folder / f"step-{step}") as stage:
        for name, tensors in state.items():
            write_tensors(stage / name, whole(tensors))
        hashes = {file.name: sha256(file) for file in sorted(stage.iterdir())}
        (stage / HASHES).write_text(json.dumps(hashes, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for old in list(_by_step(folder).values())[:-keep]:
        # Renamed first, so that one that is half deleted is not taken for a damaged one.
        shutil.rmtree(old.rename(folder / f".{old.name}"))


def restore(folder: Path, training: Training, last: int | None = None) -> int:
    """Load the newest checkpoint in `folder` that is as it was written.

    Damaged ones are renamed to step-N.damaged, with a warning.

    Args:
        folder: The checkpoints.
        training: What is set.
        last: The run's last step; None: it is not known.

    Returns:
        The step of the checkpoint; 0 if there is none.

    Raises:
        V2WError: It is as it was written, but of another model, of a step after the run's last, or of an earlier v2w.
    """
    for step, checkpoint in reversed(_by_step(folder).items()):
        if (checkpoint / "state.pt").exists() and not (checkpoint / OPTIMIZER).exists():
            raise V2WError(
                f"resume from {checkpoint}", "an earlier version of v2w wrote it", "that one, or a new folder"
            )
        if fault := _damage(checkpoint, training.files):
            log.warning("%s is damaged (%s) and is not used", checkpoint, fault)
            aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            continue
        if last is not None and step > last:
            raise V2WError(f"resume from {checkpoint}", f"the run has {last} steps", "a new folder")
        training.load(_read_files(checkpoint, training), step)
        return step
    return 0


def _by_step(folder: Path) -> dict[int, Path]:
    """Checkpoints, oldest first."""
    found = [match for path in folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
    return {step: folder / f"step-{step}" for step in sorted(int(match[1]) for match in found)}


def _read_files(checkpoint: Path, training: Training) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint's files hold.

    Raises:
        V2WError: It is not of this model.
    """
    layout = training.layout()
    # A parameter that no step has given a gradient has no state.
    there = {name.partition("/")[2] for name in read_header(checkpoint / OPTIMIZER)}
    layout[OPTIMIZER] = {
        name: value
        for name, value in layout[OPTIMIZER].items()
        if name.partition("/")[2] in there or name in (SCALE, GROWTH)
    }
    return {name: _read(checkpoint / name, like) for name, like in layout.items()}


def _damage(checkpoint: Path, files: Collection[str]) -> str | None:
    """What is wrong with the files of a checkpoint; None if nothing is."""
    try:
        hashes = read_object(checkpoint / HASHES)
        for name in files:
            if not (checkpoint / name).is_file():  # opening a FIFO would wait for ever
                return f"{name} is not there"
            if sha256(checkpoint / name) != hashes.get(name):
                return f"{name} is not what was written"
    except V2WError as error:
        return error.found
    except OSError as error:
        return str(error)
    return None


def _read(file: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in a file: those of `like`, which has their shapes and dtypes.

    Raises:
        V2WError: It holds others, or numbers that are not finite.
    """
    header = read_header(file)
    faults = [f"{name} is missing" for name in like.keys() - header.keys()]
    faults += [f"{name} is unknown" for name in header.keys() - like.keys()]
    for name in like.keys() & header.keys():
        found = f"{DTYPES[header[name].dtype].torch} {header[name].shape}"
        wanted = f"{str(like[name].dtype).removeprefix('torch.')} {tuple(like[name].shape)}"
        if found != wanted:
            faults.append(f"{name} is {found}, not {wanted}")
    if not faults:
        values = {name: read_tensor(info) for name, info in header.items()}
        faults = [f"{name} has numbers that are not finite" for name, x in values.items() if not is_finite(x)]
    if faults:
        raise V2WError(f"resume from {file}", first(sorted(faults), 3), "a new folder")
    return values

"""A run that begins with the checkpoint of another one."""

from pathlib import Path

from v2w_convert.checkpoint.output import copy_content, staging_folder
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.checkpoints import HASHES, NAME
from v2w_convert.finetuning.run_folder import CHECKPOINTS, LOG, RECORD, Log, Record, write_atomically
from v2w_convert.links import require_plain
from v2w_convert.strict_json import read_object


def require_checkpoint(checkpoint: Path, record: Record) -> None:
    """Check that `checkpoint` is RUN/checkpoints/step-N, of a run of the same converted model.

    Raises:
        V2WError: It is not.
    """
    asked, run = f"resume from {checkpoint}", checkpoint.resolve().parent.parent
    try_ = f"RUN/{CHECKPOINTS}/step-N"
    if not checkpoint.is_dir():
        raise V2WError(asked, "there is no such folder", try_)
    if NAME.fullmatch(checkpoint.resolve().name) is None or not (checkpoint / HASHES).is_file():
        raise V2WError(asked, "it is no checkpoint", try_)
    if not (run / RECORD).is_file():
        raise V2WError(asked, f"it does not lie in a run folder: there is no {RECORD} in {run}", try_)
    require_plain(checkpoint, asked)
    of = read_object(run / RECORD).get("converted")
    if not isinstance(of, dict) or of.get("sha256") != record["converted"]["sha256"]:
        raise V2WError(asked, "it is of another converted model", "a checkpoint of the same one")


def begin_from(checkpoint: Path, output: Path) -> None:
    """Copy the checkpoint, and the log until it, into the run folder `output`.

    Raises:
        V2WError: The log is not that of a run, or the disk is full.
    """
    checkpoint = checkpoint.resolve()
    match = NAME.fullmatch(checkpoint.name)
    assert match is not None, checkpoint
    log = checkpoint.parent.parent / LOG
    write_atomically(output / LOG, lambda file: copy_content(log, file))
    Log(output / LOG, int(match[1]))
    with staging_folder(output / CHECKPOINTS / checkpoint.name) as stage:
        for file in sorted(checkpoint.iterdir()):
            if file.name == HASHES or file.suffix == ".safetensors":
                copy_content(file, stage / file.name)

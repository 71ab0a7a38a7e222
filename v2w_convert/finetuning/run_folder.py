"""The folder of a run: which run it belongs to, its log, and how files get into it."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.strict_json import read_object

RECORD = "run.json"
CONFIG = "config.yaml"
LOG = "log.jsonl"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
LATENTS = "latents"
LOSS_CURVE = "loss.png"

Record = dict[str, Any]
"""What makes a run the same run: `settings`, `converted`, `data`, `validation`."""


def require_own(output: Path, record: Record, inputs: list[Path]) -> None:
    """Check that `output` is new, empty, or an unfinished or finished state of the run that `record` describes.

    Args:
        output: The run folder.
        record: What makes a run the same run.
        inputs: Folders that `output` must not lie in.

    Raises:
        V2WError: It is not.
    """
    asked = f"finetune into {output}"
    for folder in inputs:
        if output.resolve().is_relative_to(folder.resolve()):
            raise V2WError(asked, f"it lies in {folder}", "a folder outside it")
    if not output.exists():
        return
    if not output.is_dir():
        raise V2WError(asked, "it is a file", "a new folder")
    if not (output / RECORD).exists():
        if any(path.name != LOCK for path in output.iterdir()):
            raise V2WError(asked, "it is not empty, and not a finetuning run", "a new folder")
        return
    if found := differences(read_object(output / RECORD), record):
        raise V2WError(
            asked, ["it holds another run", *found], "the same settings, to resume it, or a new folder"
        )


def differences(before: Record, now: Record) -> list[str]:
    """Describe in what two runs differ, one sentence per difference; none if they are the same run."""
    was, settings = before.get("settings", {}), now["settings"]
    found = [
        f"its {key} is {was.get(key)}, not {settings.get(key)}"
        for key in {**was, **settings}
        if was.get(key) != settings.get(key)
    ]
    for name in ("converted", "data", "validation"):
        a, b = before.get(name) or {}, now[name] or {}
        if a.get("sha256") != b.get("sha256"):
            found.append(f"its {name} differs ({a.get('name', 'none')}, not {b.get('name', 'none')})")
    return found


@contextmanager
def locked(output: Path, record: Record, config: str, inputs: list[Path]) -> Iterator[None]:
    """Keep `output` for this process within the block, and record which run it belongs to.

    If the block ends before anything worth keeping was written, nothing of `output` remains.

    Args:
        output: The run folder; made if it does not exist.
        record: What makes a run the same run; written to run.json.
        config: All settings as YAML; written to config.yaml.
        inputs: Folders that `output` must not lie in.

    Raises:
        V2WError: As `require_own`; another process works in the folder; it cannot be written.
    """
    asked = f"finetune into {output}"
    require_own(output, record, inputs)
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        with (output / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise V2WError(asked, "another process is finetuning into it", "wait for it") from None
            require_own(output, record, inputs)
            for left in (*output.glob(f"{LATENTS}/.*.partial-*"), *output.glob(f"{CHECKPOINTS}/.step-*")):
                shutil.rmtree(left)  # of a process that was killed
            if not (output / RECORD).exists():
                write_json(output / RECORD, record)
            write_atomically(output / CONFIG, lambda file: file.write_text(config, encoding="utf-8"))
            try:
                yield
            except BaseException:
                if {path.name for path in output.iterdir()} <= {LOCK, RECORD, CONFIG}:
                    for name in (RECORD, CONFIG, LOCK):
                        (output / name).unlink()
                raise
    except OSError as error:
        raise V2WError(
            asked, str(error), "a folder that can be written, on a disk with space left"
        ) from error
    finally:
        with suppress(OSError):  # folders that hold something stay
            for folder in made:
                folder.rmdir()


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Have `write` write the file `target`, which is replaced whole or not at all, and flushed to the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    write(partial)
    sync(partial)
    partial.replace(target)
    sync(target.parent)


def write_json(target: Path, data: dict[str, Any]) -> None:
    """Write `data` to `target`, whole or not at all."""
    text = json.dumps(data, indent=1) + "\n"
    write_atomically(target, lambda file: file.write_text(text, encoding="utf-8"))


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Log:
    """A line of JSON for every step and every validation."""

    def __init__(self, file: Path, step: int):
        """Open the log as it was after `step`: lines of later steps, which are computed again, are removed."""
        self.file = file
        self.lines = [line for line in _read_lines(file) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        write_atomically(file, lambda target: target.write_text(text, encoding="utf-8"))

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        self.lines.append(line)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def all(self, key: str) -> list[float]:
        """Return every value logged under `key`, in order."""
        return [line[key] for line in self.lines if key in line]


def _read_lines(file: Path) -> Iterator[dict[str, Any]]:
    if file.exists():
        for text in file.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):  # the last line of a process that was killed may be cut
                yield json.loads(text)

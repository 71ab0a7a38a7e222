"""The folder of a run: whose it is, its log, and how files get into it."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from v2w_convert.checkpoint.strict_json import read_object
from v2w_convert.errors import V2WError

RECORD = "run.json"
LOG = "log.jsonl"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
LATENTS = "latents"
CURVE = "loss.png"

Record = dict[str, Any]


def require_own(output: Path, record: Record, inputs: list[Path]) -> None:
    """Raises V2WError unless `output` is new, empty, or an earlier start of the run that `record` describes.

    inputs  folders that it may not lie in
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
            raise V2WError(asked, "it is not empty, and no run of finetuning", "a new folder")
        return
    if other := differences(read_object(output / RECORD), record):
        raise V2WError(
            asked, ["another run lies there", *other], "the same settings, to go on with it, or a new folder"
        )


def differences(before: Record, now: Record) -> list[str]:
    """In what two runs differ, in words."""
    was, settings = before.get("settings", {}), now["settings"]
    found = [
        f"its {key} is {was.get(key)}, not {settings.get(key)}"
        for key in {**was, **settings}
        if was.get(key) != settings.get(key)
    ]
    for part in ("converted", "data", "validation"):
        a, b = before.get(part) or {}, now[part] or {}
        if a.get("sha256") != b.get("sha256"):
            found.append(f"its {part} is another one ({a.get('name', 'none')}, not {b.get('name', 'none')})")
    return found


@contextmanager
def claimed(output: Path, record: Record, inputs: list[Path]) -> Iterator[None]:
    """`output` is this process's alone within the block, and says which run it is of.

    If the block ends before anything of worth was made, nothing of `output` remains. Raises V2WError as
    `require_own` does, if another process is at work in it, or if it cannot be written.
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
                shutil.rmtree(left)  # of a start that was killed
            if not (output / RECORD).exists():
                put_json(output / RECORD, record)
            try:
                yield
            except BaseException:
                if {path.name for path in output.iterdir()} <= {LOCK, RECORD}:
                    (output / RECORD).unlink()
                    (output / LOCK).unlink()
                raise
    except OSError as error:
        raise V2WError(asked, str(error), "a folder that can be written, on a disk with room") from error
    finally:
        with suppress(OSError):  # those that hold something stay
            for folder in made:
                folder.rmdir()


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Have `write` write the file `target`, which is replaced whole or not at all, and reaches the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    write(partial)
    sync(partial)
    partial.replace(target)
    sync(target.parent)


def put_json(target: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=1) + "\n"
    write_atomically(target, lambda file: file.write_text(text, encoding="utf-8"))


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Log:
    """A line of JSON for every step, and for every validation. Lines of steps that are done again are forgotten."""

    def __init__(self, file: Path, step: int):
        """The log as it stood after `step`."""
        self.file = file
        self.lines = [line for line in _read_lines(file) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        write_atomically(file, lambda target: target.write_text(text, encoding="utf-8"))

    def write(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def all(self, key: str) -> list[float]:
        """Every value logged under `key`, in order."""
        return [line[key] for line in self.lines if key in line]


def _read_lines(file: Path) -> Iterator[dict[str, Any]]:
    if file.exists():
        for text in file.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):  # the last line of a start that was killed may be cut
                yield json.loads(text)

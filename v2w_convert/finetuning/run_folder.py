"""The folder of a run: which run it belongs to, its log, and how files get into it."""

import fcntl
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.finetuning.locks import open_lock
from v2w_convert.links import require_plain
from v2w_convert.new_file import PARTIAL, disk_error, new_file
from v2w_convert.strict_json import parse_object, read_object

RECORD = "run.json"
CONFIG = "config.yaml"
LOG = "log.jsonl"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
LATENTS = "latents"
LOSS_CURVE = "loss.png"
ROLLOUTS = "rollouts"  # videos, while training
TENSORBOARD = "tensorboard"
MAX_LINE = 10_000  # bytes of a line of the log

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
    require_outside(output, inputs, asked)
    if not output.exists():
        return
    if not output.is_dir():
        raise V2WError(asked, "it is a file", "a new folder")
    require_plain(output, asked)
    if not (output / RECORD).exists():
        if any(path.name != LOCK for path in output.iterdir()):
            raise V2WError(asked, "it is not empty, and not a finetuning run", "a new folder")
        return
    before = read_object(output / RECORD)
    named = [before.get(name) or {} for name in ("settings", "converted", "data", "validation")]
    if not all(isinstance(part, dict) for part in named):
        raise V2WError(asked, f"its {RECORD} is not the record of a run", "a new folder")
    if found := differences(before, record):
        raise V2WError(
            asked, ["it holds another run", *found], "the same settings, to resume it, or a new folder"
        )


def require_outside(output: Path, inputs: list[Path], asked: str) -> None:
    """Raise V2WError if `output` lies in one of the inputs."""
    for folder in inputs:
        if output.resolve().is_relative_to(folder.resolve()):
            raise V2WError(asked, f"it lies in {folder}", "a folder outside it")


def differences(before: Record, now: Record) -> list[str]:
    """Describe in what two runs differ, one sentence per difference; none if they are the same run."""
    was, settings = before.get("settings", {}), now["settings"]
    found = [
        f"its {key} is {was.get(key)}, not {settings.get(key)}"
        for key in {**was, **settings}
        if was.get(key) != settings.get(key) and not (key == "steps" and grows(was, settings))
    ]
    for name in ("converted", "data", "validation"):
        a, b = before.get(name) or {}, now[name] or {}
        if a.get("sha256") != b.get("sha256"):
            found.append(f"its {name} differs ({a.get('name', 'none')}, not {b.get('name', 'none')})")
    return found


def grows(was: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a run of one number of steps is the beginning of a longer one: nothing of it depends on their number."""
    warmup = settings["warmup"]
    free = settings["lr_scheduler"] == "constant" or (
        settings["lr_scheduler"] == "constant_with_warmup" and (warmup == 0 or warmup >= 1)
    )
    before = was.get("steps")
    return free and type(before) is int and before <= int(settings["steps"])


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
        with open_lock(output / LOCK) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise V2WError(asked, "another process is finetuning into it", "wait for it") from None
            require_own(output, record, inputs)
            for left in output.glob(f"{CHECKPOINTS}/.step-*"):
                shutil.rmtree(left)  # of a process that was killed
            for file in output.rglob(PARTIAL):
                file.unlink()
            if not (output / RECORD).exists() or read_object(output / RECORD) != record:  # it has grown
                write_json(output / RECORD, record)
            write_atomically(output / CONFIG, lambda file: file.write_text(config, encoding="utf-8"))
            try:
                yield
            except BaseException:
                if {path.name for path in output.iterdir()} <= {LOCK, RECORD, CONFIG}:
                    for name in (RECORD, CONFIG, LOCK):
                        (output / name).unlink()
                raise
    except Exception as error:
        if (found := disk_error(error)) is None:
            raise
        raise V2WError(asked, found, "a folder that can be written, on a disk with space left") from error
    finally:
        with suppress(OSError):  # folders that hold something stay
            for folder in made:
                folder.rmdir()


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Have `write` write the file `target`, which is replaced whole or not at all, and flushed to the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with new_file(target, replace=True) as partial:
        write(partial)


def write_json(target: Path, data: dict[str, Any]) -> None:
    """Write `data` to `target`, whole or not at all."""
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    write_atomically(target, lambda file: file.write_text(text, encoding="utf-8"))


class Log:
    """A line of JSON for every step and every validation."""

    def __init__(
        self,
        file: Path,
        step: int,
        also: Callable[[dict[str, Any]], object] | None = None,
        *,
        keep: bool = True,
    ):
        """Open the log as it was after `step`: lines of later steps, which are computed again, are removed.

        Args:
            file: The file.
            step: The step.
            also: Called with each line that is written.
            keep: Whether it is written; False: it is kept in memory, as another process writes it.

        Raises:
            V2WError: It is not the log of a run that has come so far.
        """
        self.file, self.keep, self._also = file, keep, also
        self.lines = list(_read_lines(file, step)) if os.path.lexists(file) else []
        if (logged := len(self.all("loss"))) != step:
            found = f"it has {logged} steps, the checkpoint is of step {step}"
            raise V2WError(f"read {file}", found, "the file as it was, or a new folder")
        if not keep:
            return
        text = "".join(_line(line) for line in self.lines)
        write_atomically(file, lambda target: target.write_text(text, encoding="utf-8"))

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. A number that is not finite, which JSON cannot hold, becomes None."""
        line = {key: value if math.isfinite(value) else None for key, value in line.items()}
        self.lines.append(line)
        if not self.keep:
            return
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(_line(line))
        if self._also is not None:
            self._also(line)

    def all(self, key: str) -> list[float]:
        """Return every value logged under `key`, in order."""
        return [line[key] for line in self.lines if key in line]


def _line(line: dict[str, Any]) -> str:
    return json.dumps(line, allow_nan=False) + "\n"


def _read_lines(file: Path, step: int) -> Iterator[dict[str, Any]]:
    """The lines until `step`: steps from 1 on, each once, and at most one validation after each."""
    asked, begun, validated = f"read {file}", 0, -1
    if not file.is_file():  # opening a FIFO would wait for ever
        raise V2WError(asked, "not a regular file", "a new folder")
    with file.open("rb") as stream:
        for number, text in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), 1):
            try:
                line = parse_object(text)
                now = _step_of(line)
                if now > step:
                    continue
                begun += "loss" in line
                if now != begun or ("loss" not in line and now == validated):
                    raise ValueError(f"step {now} after step {begun}")
                validated = now if "loss" not in line else validated
            except ValueError as error:
                if not text.endswith(b"\n") and len(text) < MAX_LINE:  # of a process that was killed
                    return
                raise V2WError(
                    asked, f"line {number}: {error}", "the file as it was, or a new folder"
                ) from None
            yield line


def _step_of(line: dict[str, Any]) -> int:
    """The step of a line of the log; ValueError if it is none."""
    numbers = all(value is None or type(value) in (int, float) for value in line.values())
    step = line.get("step")
    if type(step) is not int or step < 0 or not numbers:
        raise ValueError("not a step's numbers")
    for key in ("loss", "validation_loss"):
        if key in line and line[key] is None:
            raise ValueError(f"{key} is no number")
    return step

"""Stages that follow one another, each in a folder of its own. What is finished stays; what is not goes on."""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from examples.doom.pipeline.recipe import Recipe
from v2w_convert.errors import V2WError
from v2w_convert.new_file import write_text
from v2w_convert.strict_json import read_object

RECORD = "stage.json"
Figures = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What every stage is given.

    Attributes:
        recipe: What is made.
        output: The folder of all stages.
        device: Where models are computed.
        watch: Called when there is something new to look at.
    """

    recipe: Recipe
    output: Path
    device: torch.device
    watch: Callable[[], None] = lambda: None

    def folder(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.output / stage


@dataclass(frozen=True)
class Stage:
    """One stage: its name, which is its folder's and that of its settings; what it does, in words and as a function.

    `run` returns the figures that were measured. It is called again after it was stopped, and goes on from its folder.
    """

    name: str
    title: str
    run: Callable[[Job], Figures]


def perform(stages: Sequence[Stage], job: Job) -> None:
    """Run what is not finished, in order.

    Raises:
        V2WError: A folder holds a stage of another recipe, or one made from an earlier state of the stage before it;
            another process is at work.
    """
    with _alone(job.output):
        settings: dict[str, Any] = {}
        for number, stage in enumerate(stages):
            settings[stage.name] = getattr(job.recipe, stage.name).model_dump(mode="json")
            folder = job.folder(stage.name)
            record = read_record(folder)
            if record and record["settings"] != settings:
                raise V2WError(
                    f"make {folder}",
                    "it was begun with another recipe",
                    f"that recipe, another output folder, or delete {folder}",
                )
            if record.get("figures") is not None:
                continue
            if later := [s.name for s in stages[number + 1 :] if (job.folder(s.name) / RECORD).exists()]:
                found = f"it is not finished, but {later[0]} was made from an earlier one"
                raise V2WError(f"make {folder}", found, f"delete {job.folder(later[0])}")
            folder.mkdir(exist_ok=True)
            now = {"settings": settings, "figures": None}
            _write(folder, now)
            job.watch()
            print(f"{stage.name}: {stage.title}", flush=True)
            began = time.monotonic()
            figures = stage.run(job)
            print(f"{stage.name}: done in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
            _write(folder, now | {"figures": figures})
            job.watch()


def read_record(folder: Path) -> dict[str, Any]:
    """A stage's `settings`, with those of the stages before it, and `figures`, None until it is finished; {} if not begun."""
    return read_object(folder / RECORD) if (folder / RECORD).exists() else {}


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n", replace=True)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep `output` for this process."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise V2WError(f"make {output}", "another process is at work there", "wait for it") from None
        yield

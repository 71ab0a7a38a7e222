"""What is made of data once and kept: a folder that grows shard by shard, whoever makes it and however often it is stopped."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from v2w_convert.checkpoint.output import flush_to_disk, rename_into_place
from v2w_convert.errors import V2WError
from v2w_convert.finetuning.locks import held
from v2w_convert.links import require_plain
from v2w_convert.new_file import PARTIAL, disk_error
from v2w_convert.processes import ALONE, Processes
from v2w_convert.progress import Progress, ProgressEvent

Item = TypeVar("Item")
BEGUN = "begun"


def make_once(
    folder: Path, make: Callable[[Path], object], progress: Progress, processes: Processes = ALONE
) -> None:
    """Have `make` fill a folder, unless it is there.

    Until it is whole it lies hidden beside its place, as `.NAME.begun`. If the process is stopped or killed, what is
    written stays, and the next one goes on with it. Of several processes that know nothing of each other one makes it,
    and the others wait; those that were started together make it together.

    Args:
        folder: The folder. Its name says what is in it.
        make: Given a folder that may hold what an earlier call of it has written. All of `processes` call it.
        progress: Told if another process is waited for.
        processes: Those that were started together, which all call this.

    Raises:
        V2WError: The disk is full or fails, or something that lies there is a link out of it, a pipe or a device.
    """

    def fill(stage: Path) -> None:
        with _disk_told(f"write {folder}"):
            make(stage)

    with ExitStack() as held_open:
        stage = processes.of_first(lambda: held_open.enter_context(_stage(folder, progress)))
        if stage is not None:
            processes.each(lambda: fill(stage))
        processes.each(held_open.close)


@contextmanager
def _stage(folder: Path, progress: Progress) -> Iterator[Path | None]:
    """Where `folder` is made within the block, for this process alone; None: it is there. Afterwards it has its name."""
    asked, stage = f"write {folder}", folder.with_name(f".{folder.name}.{BEGUN}")
    _refuse_link(folder, stage)
    if folder.exists():  # whole, since it got its name by one rename
        require_plain(folder, f"read {folder}")
        yield None
        return
    made = [parent for parent in folder.parents if not parent.exists()]

    def waits() -> None:
        progress(ProgressEvent("note", detail=f"another process is encoding {folder}: waiting for it"))

    try:
        with ExitStack() as held_open, _disk_told(asked):
            folder.parent.mkdir(parents=True, exist_ok=True)
            held_open.enter_context(held(folder.with_name(f".{folder.name}.lock"), waits))
            if folder.exists():
                yield None
                return
            stage.mkdir(exist_ok=True)
            require_plain(stage, asked)
            for left in stage.glob(PARTIAL):  # of a process that was killed
                left.unlink()
            try:
                yield stage
                flush_to_disk(stage)
                rename_into_place(stage, folder, asked)
                flush_to_disk(folder.parent)
            finally:
                with suppress(OSError):  # of which nothing was written yet
                    stage.rmdir()
    finally:
        with suppress(OSError):  # folders that hold something stay
            for parent in made:
                parent.rmdir()


@contextmanager
def _disk_told(asked: str) -> Iterator[None]:
    """Make an error of the disk within the block one line."""
    try:
        yield
    except OSError as error:
        advice = "a folder that can be written, on a disk with space left"
        raise V2WError(asked, disk_error(error) or "", advice) from error


def _refuse_link(*folders: Path) -> None:
    for folder in folders:
        if folder.is_symlink():
            found = f"{folder} is a link to {os.path.realpath(folder)}"
            raise V2WError(f"use what was encoded in {folder}", found, "another --cache")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, of which the next one is made by another thread while one is used."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]

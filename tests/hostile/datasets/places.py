"""Links, pipes, devices and folders in the place of files and folders."""

import os
import shutil
import socket
from pathlib import Path

from tests.hostile.datasets import Spoil
from tests.hostile.datasets.whole import FILES, VIDEO


def linked(name: str) -> Spoil:
    """What has this name lies outside the data set, and a link to it inside."""

    def spoil(folder: Path) -> None:
        outside = folder.parent / "outside"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return spoil


def in_place(name: str, make: Spoil) -> Spoil:
    """`make` makes something where the file was."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


def listening(path: Path) -> None:
    """A socket; bound by a short name, since long ones are not allowed."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Spoil] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": listening,
    "the device /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "not there": lambda path: None,
}
FOLDERS = [
    "meta",
    "meta/episodes",
    "meta/episodes/chunk-000",
    "data",
    "data/chunk-000",
    "videos",
    str(Path(VIDEO).parent),
]
CASES: dict[str, Spoil] = {
    **{f"{name} is linked from outside": linked(name) for name in (*FILES, *FOLDERS)},
    **{f"{name} is {kind}": in_place(name, make) for name in FILES for kind, make in KINDS.items()},
    **{f"no folder {name}": lambda folder, name=name: shutil.rmtree(folder / name) for name in FOLDERS},
    "a link out among the list of episodes": lambda folder: (
        shutil.copy(folder / "meta/tasks.parquet", folder.parent / "x.parquet"),
        (folder / "meta/episodes/chunk-000/file-001.parquet").symlink_to(folder.parent / "x.parquet"),
    ),
    "a pipe among the list of episodes": lambda folder: os.mkfifo(folder / "meta/episodes/chunk-000/file-001.parquet"),
}  # fmt: skip
del CASES["meta/tasks.parquet is not there"]  # a data set without texts
"""All are to be refused."""

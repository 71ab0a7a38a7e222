"""Write a checkpoint folder completely or not at all."""

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_convert.checkpoint.headers import DTYPES
from v2w_convert.errors import V2WError
from v2w_convert.new_file import ADVICE, disk_error
from v2w_convert.new_file import flush_to_disk as flush_to_disk

if TYPE_CHECKING:
    import torch


@contextmanager
def staging_folder(folder: Path, source: Path | None = None) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` when the block ends without an exception.

    It lies hidden beside `folder`, as `.NAME.partial-PID-…`. Once everything in it is on disk, one rename puts it
    in place. On an exception it is removed; a SIGKILL leaves it. In both cases `folder` is unchanged.

    Raises:
        V2WError: At once if `folder` is there and not empty, cannot be made, or is or lies in `source`; later
            if the disk fails or is full, or if another process has made `folder` meanwhile.
    """
    asked = f"write {folder}"
    target = Path(os.path.realpath(folder))
    stage = target.parent / f".{target.name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
    made: list[Path] = []
    try:
        check_target(target, source, asked)
        made = [parent for parent in target.parents if not parent.exists()]
        stage.mkdir(parents=True)
        yield stage
        for here, _, names in os.walk(stage, topdown=False):
            flush_to_disk(*(Path(here, name) for name in names), Path(here))
        rename_into_place(stage, target, asked)
    except BaseException as error:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):  # a folder that others use by now stays
            for parent in made:
                parent.rmdir()
        if (found := disk_error(error)) is not None:
            raise V2WError(asked, found, ADVICE) from error
        raise
    flush_to_disk(target.parent, *(parent.parent for parent in made))


def write_safetensors(
    file: Path,
    tensors: Iterable[tuple[str, "torch.Tensor"]],
    infos: list[tuple[str, str, tuple[int, ...]]],
    metadata: dict[str, str],
) -> None:
    """Write a new safetensors file in the order of `infos`, holding one tensor at a time.

    The file is flushed to the disk. A tensor that is not what its info says is an AssertionError.

    Args:
        tensors: Name and tensor, in that order; on any device, of any strides.
        infos: Name, dtype as safetensors spells it, and shape of each.
        metadata: The header's __metadata__.
    """
    import torch

    text = safetensors_header(infos, metadata)
    expected = iter(infos)
    with file.open("xb") as stream:
        stream.write(text)
        for given, tensor in tensors:
            name, dtype, shape = next(expected, ("nothing more", "", ()))
            found = (given, str(tensor.dtype), tuple(tensor.shape))
            expected_info = (name, f"torch.{DTYPES[dtype].torch}" if dtype else "", tuple(shape))
            assert found == expected_info, f"{file}: expected {expected_info}, found {found}"
            data = tensor.cpu().contiguous().flatten().view(torch.uint8)
            stream.write(data.numpy().data)
            del tensor, data  # before the next one is created
        lacking = next(expected, None)
        assert lacking is None, f"{file}: expected {lacking}, found nothing"
        stream.flush()
        os.fsync(stream.fileno())


def safetensors_header(infos: list[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]) -> bytes:
    """What a safetensors file holds before its tensors' bytes, which follow in the order of `infos`."""
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, dtype, shape in infos:
        assert name not in entries, f"{name} is given twice"
        stop = position + math.prod(shape) * DTYPES[dtype].bits // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(entries, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def copy_content(file: Path, target: Path) -> None:
    """Copy the content of `file`, not its mode or times, to `target`; parent folders are created."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def sha256(file: Path) -> str:
    """The SHA-256 of the content of `file`, in lower-case hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_target(folder: Path, source: Path | None, asked: str) -> None:
    """Check that a new folder can be written at `folder`.

    Raises:
        V2WError: If `folder` is there and not empty, or is or lies in `source`.
    """
    target = Path(os.path.realpath(folder))
    if source is not None:
        root = Path(os.path.realpath(source))
        if target.is_relative_to(root):
            raise V2WError(asked, f"it is inside the source, {source}", "a folder outside it")
    if os.path.ismount(target):
        raise V2WError(
            asked, "it is the root of a file system, which a rename cannot replace", "a folder in it"
        )
    if target.is_dir():
        if any(target.iterdir()):
            raise V2WError(asked, "it already exists and is not empty", "a new folder")
    elif target.exists():
        raise V2WError(asked, "it is a file", "a new folder")


def rename_into_place(stage: Path, target: Path, asked: str) -> None:
    """Rename a folder.

    Raises:
        V2WError: If there is anything but an empty folder at `target`.
    """
    try:
        os.rename(
            stage, target
        )  # replaces an empty folder and nothing else, so files written meanwhile are safe
    except OSError as error:
        found = f"the finished folder cannot be put in place: {error.strerror}"
        raise V2WError(asked, found, "a new folder that nothing else writes") from error

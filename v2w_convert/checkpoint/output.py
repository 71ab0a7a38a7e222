"""Write a checkpoint folder whole or not at all."""

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_convert.checkpoint.headers import DTYPES
from v2w_convert.errors import V2WError

if TYPE_CHECKING:
    import torch


@contextmanager
def staged(folder: Path, source: Path | None = None) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` when the block ends without an exception.

    It lies hidden beside `folder`, as `.NAME.partial-PID-…`, so that one rename puts it in place, after
    everything in it has reached the disk. On any exception it is removed, and `folder` is as it was; after
    a SIGKILL it remains, and `folder` is as it was, too.

    Raises V2WError at once if `folder` is there and not empty, cannot be made, or is or lies in `source`;
    later if the disk fails or is full, or if another process has made `folder` meanwhile.
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
            sync(*(Path(here, name) for name in names), Path(here))
        put_in_place(stage, target, asked)
    except BaseException as error:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):  # a folder that others use by now stays
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError):
            raise V2WError(asked, str(error), "a folder that can be written, on a disk with room") from error
        raise
    sync(target.parent, *(parent.parent for parent in made))


def write_safetensors(
    file: Path,
    tensors: Iterable[tuple[str, "torch.Tensor"]],
    infos: list[tuple[str, str, tuple[int, ...]]],
    metadata: dict[str, str],
) -> None:
    """Write a new safetensors file in the order of `infos`, holding one tensor at a time.

    tensors   name and tensor, in that order; on any device, of any strides
    infos     name, dtype as safetensors spells it, and shape of each
    metadata  the header's __metadata__

    The file is flushed to the disk. A tensor that is not what its info says is an AssertionError.
    """
    import torch

    text = header(infos, metadata)
    expected = iter(infos)
    with file.open("xb") as stream:
        stream.write(text)
        for given, tensor in tensors:
            name, dtype, shape = next(expected, ("nothing more", "", ()))
            found = (given, str(tensor.dtype), tuple(tensor.shape))
            promised = (name, f"torch.{DTYPES[dtype].torch}" if dtype else "", tuple(shape))
            assert found == promised, f"{file}: promised {promised}, given {found}"
            data = tensor.cpu().contiguous().flatten().view(torch.uint8)
            stream.write(data.numpy().data)
            del tensor, data  # before the next one is made
        lacking = next(expected, None)
        assert lacking is None, f"{file}: promised {lacking}, given nothing"
        stream.flush()
        os.fsync(stream.fileno())


def header(infos: list[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]) -> bytes:
    """What a safetensors file holds before its tensors' bytes, which follow in the order of `infos`."""
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, dtype, shape in infos:
        assert name not in entries, f"{name} is given twice"
        stop = position + math.prod(shape) * DTYPES[dtype].bits // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def copy(file: Path, target: Path) -> None:
    """Copy the content of `file` (not its mode, times or being a link) to `target`, in a new folder if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def sha256(file: Path) -> str:
    """The SHA-256 of the content of `file`, in lower-case hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def same_hashes(expected: dict[Path, str]) -> bool:
    """Whether all these files are there and have these hashes."""
    if not all(file.is_file() for file in expected):
        return False
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(sha256, expected)) == list(expected.values())


def check_target(folder: Path, source: Path | None, asked: str) -> None:
    """Raises V2WError if `folder` is there and not empty, or is or lies in `source`."""
    target = Path(os.path.realpath(folder))
    if source is not None:
        root = Path(os.path.realpath(source))
        if target.is_relative_to(root):
            raise V2WError(asked, f"it lies in the source, {source}", "a folder outside it")
    if os.path.ismount(target):
        raise V2WError(
            asked, "it is the root of a file system, which cannot be put in place", "a folder in it"
        )
    if target.is_dir():
        if any(target.iterdir()):
            raise V2WError(asked, "it is there already and not empty", "a new folder")
    elif target.exists():
        raise V2WError(asked, "it is a file", "a new folder")


def put_in_place(stage: Path, target: Path, asked: str) -> None:
    """Rename a folder. Raises V2WError if there is anything but an empty folder at `target`."""
    try:
        os.rename(stage, target)  # replaces an empty folder and nothing else: what came meanwhile is safe
    except OSError as error:
        found = f"the finished folder cannot be put in place: {error.strerror}"
        raise V2WError(asked, found, "a new folder that nothing else writes") from error


def sync(*paths: Path) -> None:
    """Have files and folders reach the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems sync files only.
            if not (path.is_dir() and error.errno == errno.EINVAL):
                raise
        finally:
            os.close(descriptor)

"""The tensors of one file, whatever its format: safetensors, or what torch.save wrote."""

from dataclasses import dataclass
from pathlib import Path

from v2w_convert.checkpoint.headers import MAX_HEADER_BYTES, TensorInfo, read_header
from v2w_convert.checkpoint.pickles import ZIP, read_pickle
from v2w_convert.errors import V2WError

LFS = b"version https://git-lfs.github.com/spec/"
HTML = (b"<!doctype html", b"<html")
START = 64  # bytes that tell a format


@dataclass(frozen=True)
class FileContent:
    """What a file holds.

    Attributes:
        tensors: By name.
        unread: Names of others, each with the reason why it cannot be read.
        notes: What is ignored, in sentences.
        pickled: Whether torch.save wrote it.
    """

    tensors: dict[str, TensorInfo]
    unread: dict[str, str]
    notes: tuple[str, ...] = ()
    pickled: bool = False


def read_file(file: Path) -> FileContent:
    """What `file` holds; its first bytes decide its format, not its name.

    Raises:
        V2WError: If it is of another format, malformed, or a pickle that asks for more than tensors.
    """
    if not file.is_file():  # opening a FIFO would wait for ever
        raise V2WError(f"read {file}", "not a regular file" if file.exists() else "no such file")
    try:
        with file.open("rb") as stream:
            start = stream.read(START)
    except OSError as error:
        raise V2WError(f"read {file}", error.strerror or str(error)) from None
    check_format(file, start)
    if not start.startswith(ZIP):
        return FileContent(read_header(file), {})
    found = read_pickle(file)
    more = f" and {len(found.aside) - 8} more" if len(found.aside) > 8 else ""
    notes = (f"ignored: {', '.join(found.aside[:8])}{more}",) if found.aside else ()
    return FileContent(found.tensors, found.unread, notes, pickled=True)


def check_format(file: Path, start: bytes) -> None:
    """Check that a weight file is none of another format.

    Args:
        file: The file.
        start: Its first bytes.

    Raises:
        V2WError: Naming the format, and what to do instead.
    """
    asked = f"read {file}"
    if start.startswith(LFS):
        raise V2WError(
            asked,
            "a Git LFS pointer of a few bytes, which stands for the file that was not downloaded",
            "git lfs pull, in the folder that was cloned",
        )
    if start.startswith(b"GGUF"):
        raise V2WError(
            asked,
            "a GGUF file: its weights are quantised to a few bits, which surgery and training cannot compute with",
            "the same model as safetensors in bf16 or fp16",
        )
    if start.lower().startswith(HTML):
        raise V2WError(
            asked,
            "a web page: the site answered with a page, such as one that asks to log in, and it was saved as the file",
            "hf download, after hf auth login if the model is gated",
        )
    if start.startswith(b"\x89HDF"):
        raise V2WError(asked, "an HDF5 file, as TensorFlow and Keras write it", "the model's PyTorch weights")
    if start[:1] == b"\x80" and int.from_bytes(start[:8], "little") > MAX_HEADER_BYTES:
        raise V2WError(
            asked,
            "a pickle of the form that torch wrote before version 1.6, which cannot be read safely",
            "where you trust it, load it with that torch and save its state_dict as safetensors",
        )

"""The file that an export writes: checks before any work, and the move into place."""

import os
from importlib.util import find_spec
from pathlib import Path

from v2w_convert.errors import V2WError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_target(output: Path) -> None:
    """Check that `output` is a new .onnx file in an existing folder.

    Raises:
        V2WError: It is not; all faults are named.
    """
    faults = []
    if output.suffix != ".onnx":
        faults.append(f"{output.name} does not end in .onnx")
    if not output.parent.is_dir():
        faults.append(f"there is no folder {output.parent}")
    faults += [f"{file} is there already" for file in (output, data_of(output)) if os.path.lexists(file)]
    if faults:
        raise V2WError(f"write {output}", faults, "-o NEW.onnx")


def require_packages(asked: str = "export to ONNX") -> None:
    """Check that the packages that exporting needs are installed.

    Raises:
        V2WError: One is not. `asked` says what was asked for.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise V2WError(asked, f"{', '.join(missing)} not installed", "pip install v2w-convert[export]")


def data_of(file: Path) -> Path:
    """The file to which torch's exporter writes weights that do not fit into the 2 GB of the file itself."""
    return file.with_name(f"{file.name}.data")


def files_of(file: Path) -> list[Path]:
    """All files of the exported model `file`, which has its folder for itself; `file` last."""
    return sorted(file.parent.iterdir(), key=lambda other: (other == file, other))


def move_into_place(file: Path, output: Path) -> None:
    """Move the exported model `file`, which has its folder for itself, to `output` on the same disk.

    `file` itself is moved last, so that an `output` that exists is complete.

    Args:
        file: The exported model, of the same name as `output`.
        output: Its final path.

    Raises:
        V2WError: `output` exists by now.
    """
    require_target(output)  # hours may have passed
    for written in files_of(file):
        with written.open("rb") as stream:
            os.fsync(stream.fileno())
        os.rename(written, output.with_name(written.name))

"""The file that an export writes: what is refused before any work, and how it gets into place."""

import os
from importlib.util import find_spec
from pathlib import Path

from v2w_convert.errors import V2WError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_target(output: Path) -> None:
    """Raises V2WError, all faults at once, unless `output` is a new .onnx file in a folder that is there."""
    faults = []
    if output.suffix != ".onnx":
        faults.append(f"{output.name} does not end in .onnx")
    if not output.parent.is_dir():
        faults.append(f"there is no folder {output.parent}")
    faults += [f"{file} is there already" for file in (output, data_of(output)) if os.path.lexists(file)]
    if faults:
        raise V2WError(f"write {output}", faults, "-o NEW.onnx")


def require_packages() -> None:
    """Raises V2WError if a package that exporting needs is not installed."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise V2WError(
            "export to ONNX", f"{', '.join(missing)} not installed", "pip install v2w-convert[export]"
        )


def data_of(file: Path) -> Path:
    """Where torch's exporter puts weights that do not fit into the 2 GB of the file itself."""
    return file.with_name(f"{file.name}.data")


def parts(file: Path) -> list[Path]:
    """The files in the folder of a model that has it for itself, the model's own last."""
    return sorted(file.parent.iterdir(), key=lambda part: (part == file, part))


def put(file: Path, output: Path) -> None:
    """Move a finished model of the same name, in a folder for itself, to `output` on the same disk.

    Its own file comes last: what is called `output` is whole.
    """
    require_target(output)  # hours may have passed
    for part in parts(file):
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        os.rename(part, output.with_name(part.name))

"""What would keep an output from being written, found before a byte is."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2w_convert.checkpoint.output_files import OutputFile
from v2w_convert.checkpoint.resumable import staged_bytes
from v2w_convert.errors import V2WError

BLOCK = 4096  # a file takes whole blocks
MARGIN = 2**20  # folders, the journal, the manifest


@dataclass(frozen=True)
class Room:
    """Bytes that an output takes on the disk, and that are free there (a stage to go on with included)."""

    needed: int
    free: int


def room(items: Sequence[OutputFile], output: Path, link: bool = False) -> Room:
    home = _nearest(output)
    disk = os.statvfs(home)
    device = os.stat(home).st_dev
    linked = [
        item.path for item in items if link and item.whole and os.stat(item.sources[0]).st_dev == device
    ]
    needed = sum(-(-item.size // BLOCK) * BLOCK for item in items if item.path not in linked)
    return Room(needed + MARGIN, disk.f_bavail * disk.f_frsize + staged_bytes(output))


def check(items: Sequence[OutputFile], output: Path, link: bool = False) -> None:
    """Raises V2WError, with all faults at once, if there is no room or permission, or two files have one name."""
    faults = []
    home = _nearest(output)
    if not os.access(home, os.W_OK | os.X_OK):
        faults.append(f"{home} may not be written")
    for file in dict.fromkeys(file for item in items for file in item.sources):
        if not os.access(file, os.R_OK):
            faults.append(f"{file} may not be read")
    paths = [item.path for item in items]
    faults += [f"two files are called {path}" for path in sorted({p for p in paths if paths.count(p) > 1})]
    found = room(items, output, link)
    if found.needed > found.free:
        faults.append(f"{found.needed:,} bytes are needed on the disk of {home}, {found.free:,} are free")
    if faults:
        more = [f"and {len(faults) - 8} more"] if len(faults) > 8 else []
        raise V2WError(f"write {output}", faults[:8] + more, "a folder on a disk with room")


def _nearest(path: Path) -> Path:
    """The innermost folder on the way to `path` that is there."""
    path = Path(os.path.realpath(path))
    return next(parent for parent in (path, *path.parents) if parent.is_dir())

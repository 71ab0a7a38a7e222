"""Find what would prevent an output from being written, before the first byte is."""

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
class DiskSpace:
    """Bytes that an output needs on disk, and bytes that are free there (a resumable staging folder included)."""

    needed: int
    free: int


def disk_space(items: Sequence[OutputFile], output: Path, link: bool = False) -> DiskSpace:
    home = _nearest(output)
    disk = os.statvfs(home)
    device = os.stat(home).st_dev
    linked = [
        item.path for item in items if link and item.is_copy and os.stat(item.sources[0]).st_dev == device
    ]
    needed = sum(-(-item.size // BLOCK) * BLOCK for item in items if item.path not in linked)
    return DiskSpace(needed + MARGIN, disk.f_bavail * disk.f_frsize + staged_bytes(output))


def check_writable(items: Sequence[OutputFile], output: Path, link: bool = False) -> None:
    """Check permissions, disk space and file names before the first byte is written.

    Raises:
        V2WError: With all faults at once, if disk space or permissions are missing, or two files share a name.
    """
    faults = []
    home = _nearest(output)
    if not os.access(home, os.W_OK | os.X_OK):
        faults.append(f"{home} is not writable")
    for file in dict.fromkeys(file for item in items for file in item.sources):
        if not os.access(file, os.R_OK):
            faults.append(f"{file} is not readable")
    paths = [item.path for item in items]
    faults += [
        f"two files share the name {path}" for path in sorted({p for p in paths if paths.count(p) > 1})
    ]
    found = disk_space(items, output, link)
    if found.needed > found.free:
        faults.append(f"{found.needed:,} bytes are needed on the disk of {home}, {found.free:,} are free")
    if faults:
        more = [f"and {len(faults) - 8} more"] if len(faults) > 8 else []
        raise V2WError(f"write {output}", faults[:8] + more, "a folder on a disk with enough space")


def _nearest(path: Path) -> Path:
    """The innermost existing folder on the way to `path`."""
    path = Path(os.path.realpath(path))
    return next(parent for parent in (path, *path.parents) if parent.is_dir())

"""What was measured, by which versions, when, and the command that does it again."""

import shlex
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.convert import source_name
from v2w_convert.surgery.manifest import Manifest


def of_model(manifest: Manifest, resolved: ResolvedPlan) -> dict[str, Any]:
    """What the manifest says; hashes of what was converted are those of its weight files."""
    operations = [operation.name for operation in resolved.sites.values()]
    return {
        "stage": manifest.stage,
        "trained_steps": (manifest.finetuning or {}).get("steps"),
        "class": resolved.plan.base,
        "plan": resolved.plan.name,
        "converted_by": manifest.version,
        "action_dim": manifest.action_dim,
        "frames_per_block": resolved.frames_per_block,
        "window": resolved.window,
        "sites": {name: operations.count(name) for name in dict.fromkeys(operations)},
        "source": {"name": manifest.source["name"], "files": manifest.source["files"]},
        "result": manifest.result,
    }


def of_run(
    converted: Path, base: Path | None, clips: Path | None, camera: str | None, report: Path | None
) -> dict[str, Any]:
    """Versions, date (UTC) and command; of absolute paths, which are nobody else's, only the last part."""
    words = ["v2w", "verify", shown(converted)]
    words += ["--base", shown(base)] if base is not None else []
    words += ["--clips", shown(clips)] if clips is not None else []
    words += ["--camera", camera] if camera is not None else []
    words += ["--report", shown(report)] if report is not None else []
    return {
        "v2w": version("v2w-convert"),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(words),
    }


def shown(path: Path) -> str:
    """For a report that others read."""
    return source_name(path) if path.is_absolute() else str(path)

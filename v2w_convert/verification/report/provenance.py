"""What was measured, by which versions, when, and the command that measures it again."""

import shlex
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.surgery.convert import source_name
from v2w_convert.surgery.manifest import Manifest
from v2w_convert.verification.settings import VerifySettings


def describe_model(manifest: Manifest, resolved: ResolvedPlan) -> dict[str, Any]:
    """Return what the manifest says, as plain data. Hashes of the base are those of its weight files."""
    operations = [operation.name for operation in resolved.sites.values()]
    return {
        "stage": manifest.stage if manifest.finetuning is None else "finetuned",
        "trained_steps": (manifest.finetuning or {}).get("steps"),
        "class": resolved.plan.base,
        "plan": resolved.plan.name,
        "converted_by": manifest.version,
        "action_dim": manifest.action_dim,
        "frames_per_block": resolved.frames_per_block,
        "window": resolved.window,
        "sites": {name: operations.count(name) for name in dict.fromkeys(operations)},
        "source": {"name": manifest.source["name"], "files": _base_files(manifest)},
        "result": manifest.result,
        **({} if manifest.boundary is None else {"boundary": manifest.boundary}),
    }


def _base_files(manifest: Manifest) -> dict[str, str]:
    """Hashes of the base's weight files; of two denoisers, by their folder and name."""
    if manifest.low_noise is None:
        return manifest.source["files"]
    return {
        f"{part.component}/{name}": digest
        for part in manifest.experts.values()
        for name, digest in part.source["files"].items()
    }


def describe_run(
    converted: Path, base: Path | None, settings: VerifySettings, report: Path | None
) -> dict[str, Any]:
    """Return versions, date (UTC) and command as plain data. Of absolute paths only the last part is shown."""
    words = ["v2w", "verify", public_path(converted)]
    words += ["--base", public_path(base)] if base is not None else []
    words += ["--clips", public_path(settings.clips)] if settings.clips is not None else []
    words += ["--camera", settings.camera] if settings.camera is not None else []
    words += ["--memory", f"{settings.memory:g}"] if settings.memory is not None else []
    words += ["--budget", f"{settings.budget:g}"] if settings.budget is not None else []
    words += ["-o", public_path(report)] if report is not None else []
    return {
        "v2w": version("v2w-convert"),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(words),
    }


def public_path(path: Path) -> str:
    """Return `path` as it may stand in a report that others read: of an absolute one only the last part."""
    return source_name(path) if path.is_absolute() else str(path)

"""A base becomes a converted folder: the plan is chosen, everything is checked, then files are written."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from v2w_convert.checkpoint.digests import all_recorded
from v2w_convert.checkpoint.headers import read_header
from v2w_convert.checkpoint.output import check_target
from v2w_convert.checkpoint.source import MANIFEST, Choice
from v2w_convert.data.settings import DataSettings
from v2w_convert.device import resolve_device
from v2w_convert.errors import V2WError, error_context
from v2w_convert.progress import Progress, ProgressEvent, no_progress
from v2w_convert.surgery.choose import choose_plan
from v2w_convert.surgery.manifest import CONDITIONS, Manifest, read_manifest
from v2w_convert.surgery.result import ConvertResult, PlannedFile, TensorCounts
from v2w_convert.surgery.settings import ConvertSettings

if TYPE_CHECKING:
    from v2w_convert.checkpoint.source import Source
    from v2w_convert.plan.resolve import ResolvedPlan

MB = 10**6


def convert_checkpoint(
    base: Path, output: Path, settings: ConvertSettings, progress: Progress = no_progress
) -> ConvertResult:
    """Convert `base` into the folder `output`, or report what would be done.

    A folder that holds the result of this very conversion is left as it is. A conversion that was killed is
    continued. `settings.verify` is not looked at: verification is a later stage.

    Args:
        base: A diffusers model or pipeline folder, or a file or folder as its makers publish it.
        output: A folder that does not exist, is empty, or holds the result of the same conversion.
        settings: How to convert.
        progress: Called with the megabytes that are written.

    Returns:
        What was done.

    Raises:
        V2WError: Before anything is written, if the base, the plan or the folder does not fit; later, if the
            disk fails or the base changes.
    """
    if settings.device != "auto":
        resolve_device(settings.device)
    if settings.conditions is not None:
        read_header(settings.conditions)  # a file of another format is refused before torch is imported
    if output.is_dir() and (output / MANIFEST).is_file():
        source, resolved, settings, read = _choose(base, settings)
        if not is_result_of(output, source, resolved, settings):
            raise V2WError(
                f"convert into {output}", "another plan, source or option made what is there", "a new folder"
            )
        from v2w_convert.checkpoint.resumable import remove_leftovers

        remove_leftovers(output)
        counts = _count(read_manifest(output).all_tensors.values())
        return ConvertResult(
            base, output, resolved.plan.name, counts, already_converted=True, notes=read, settings=settings
        )
    check_target(output, base, f"convert into {output}")
    source, resolved, settings, read = _choose(base, settings)
    from v2w_convert.checkpoint.preflight import check_writable, disk_space
    from v2w_convert.plan.coverage import require_coverage
    from v2w_convert.surgery.conditions import ConditionChoice
    from v2w_convert.surgery.convert import plan_conversion, write_conversion
    from v2w_convert.surgery.pipeline import autoencoder_notes

    with error_context(base, settings.plan):
        require_coverage(resolved.plan)
    assert settings.action_dim is not None  # given, or read from the data
    planned = plan_conversion(
        source,
        resolved,
        action_dim=settings.action_dim,
        seed=settings.seed,
        conditions=ConditionChoice(settings.conditions, settings.prompt, settings.device),
        data_view=view_of(settings),
    )
    fates = planned.manifest.all_tensors
    counts = _count(fates.values())
    notes = [*source.notes, *read, *autoencoder_notes(source), *planned.notes]
    if settings.dry_run:
        space = disk_space(planned.items, output, settings.link)
        check_writable(planned.items, output, settings.link)
        return ConvertResult(
            base,
            output,
            resolved.plan.name,
            counts,
            dry_run=True,
            changes={name: status for name, status in fates.items() if status != "kept"},
            files=[PlannedFile(item.path, item.size, item.copied) for item in planned.items],
            bytes_needed=space.needed,
            bytes_free=space.free,
            notes=notes,
            settings=settings,
        )

    done, total = 0, sum(item.size for item in planned.items)

    def written(count: int) -> None:
        nonlocal done
        done += count
        progress(ProgressEvent("convert", done // MB, total // MB, "MB"))

    with error_context(base, settings.plan):
        _, hashes = write_conversion(planned, output, link=settings.link, progress=written)
    if settings.link:
        whole = [item.path for item in planned.items if item.is_copy]
        if copied := [path for path in whole if path not in hashes.linked]:
            notes.append(
                f"{len(copied)} of {len(whole)} whole files are copies, where the file system gave no link"
            )
    return ConvertResult(
        base,
        output,
        resolved.plan.name,
        counts,
        linked=list(hashes.linked),
        notes=notes,
        settings=settings,
    )


def is_result_of(output: Path, source: "Source", resolved: "ResolvedPlan", settings: ConvertSettings) -> bool:
    """Whether the converted folder `output` is what this conversion would write, unchanged since."""
    from v2w_convert.surgery.conditions import conditions_match, stored_prompt

    manifest = read_manifest(output)
    prompt = None if settings.conditions else stored_prompt(source, resolved, settings.prompt)
    return (
        manifest.prompt == prompt
        and (prompt is not None or conditions_match(resolved, settings.conditions, output / CONDITIONS))
        and manifest.finetuning is None
        and manifest.plan == resolved.plan.model_dump(mode="json")
        and manifest.choice == source.choice
        and (manifest.action_dim, manifest.seed) == (settings.action_dim, settings.seed)
        and manifest.boundary == source.boundary
        and manifest.data_view == view_of(settings)
        and all(_is_made_of(manifest.experts[name], expert) for name, expert in source.experts.items())
        and all_recorded({output / name: digest for name, digest in manifest.result.items()})
    )


def view_of(settings: ConvertSettings) -> DataSettings | None:
    """How data will be read, as far as the settings say."""
    return DataSettings(**said) if (said := settings.said()) else None


def _is_made_of(manifest: Manifest, source: "Source") -> bool:
    """Whether the manifest's one denoiser was made of the weight files of `source`, as they are."""
    recorded = manifest.source["files"]
    return recorded.keys() == {file.name for file in source.files} and all_recorded(
        {file: recorded[file.name] for file in source.files}
    )


def _choose(
    base: Path, settings: ConvertSettings
) -> "tuple[Source, ResolvedPlan, ConvertSettings, list[str]]":
    """The base, its plan, the settings with the action dimension, and how that was read."""
    source, resolved = choose_plan(
        base,
        settings.plan,
        choice=Choice(settings.variant, settings.ema),
        repair=settings.repair,
        transfer=settings.transfer,
        frames_per_block=settings.frames_per_block,
        window=settings.window,
        sinks=settings.sinks,
    )
    if settings.data is None:
        return source, resolved, settings, []
    from v2w_convert.surgery.action_dim import with_action_dim

    return source, resolved, *with_action_dim(source, settings, settings.data)


def _count(statuses: Iterable[str]) -> TensorCounts:
    counts = Counter(statuses)
    return TensorCounts(counts["kept"], counts["transferred"], counts["added"])

"""Before training: what a checkpoint is, which plan fits, and the conversion."""

from pathlib import Path
from typing import Annotated, Any

import typer

from v2w_convert.checkpoint.hub import resolve_hub_id
from v2w_convert.cli.options import Base, Json, PlanFile, Seed, write_text
from v2w_convert.errors import V2WError, error_context

MB = 10**6


def inspect(base: Base, plan: PlanFile = None, json: Json = False) -> None:
    """Family, sizes, every module through which frames mix, and the plan that fits."""
    base = resolve_hub_id(base)
    source, resolved = _resolve(base, plan)
    from v2w_convert.plan.coverage import uncovered_sites
    from v2w_convert.report import fold_paths, print_json, print_line, print_table
    from v2w_convert.surgery.convert import check_tensors, stored_dtype

    check_tensors(source, resolved)
    with error_context(base, plan):
        missing = [site.name for site in uncovered_sites(resolved.plan)]
    sizes = {
        "class": source.class_name,
        "parameters": sum(_count(info.shape) for info in source.tensors.values()),
        "dtype": str(stored_dtype(source)).removeprefix("torch."),
        "latent channels": resolved.call.channels,
        "window": resolved.window,
        "frames per block": resolved.frames_per_block,
        "conditions": ", ".join(resolved.call.conditions) or "none",
        "noise": f"{resolved.noise.kind}, prediction {resolved.noise.prediction}",
        "plan": resolved.plan.name,
    }
    print_table(str(base), ["what", "found"], sizes.items())
    rows = []
    for operation in resolved.plan.operations:
        paths = [path for path, chosen in resolved.sites.items() if chosen == operation]
        rows += [(operation.name, path, count) for path, count in fold_paths(paths).items()]
    print_table("where the plan operates", ["operation", "modules", "count"], rows)
    if missing:
        print_table(
            "frames mix here too, and the plan says nothing of it", ["module"], [[name] for name in missing]
        )
    for note in source.notes:
        print_line(f"{base}: {note}")
    if json:
        sites = {path: operation.name for path, operation in resolved.sites.items()}
        notes = list(source.notes)
        print_json({"ok": not missing, **sizes, "sites": sites, "uncovered": missing, "notes": notes})


def plan(
    base: Base,
    output: Annotated[Path, typer.Option("-o", "--output", help="the YAML file to write")],
    json: Json = False,
) -> None:
    """Write the plan that fits, or draft one for a class that has none, to read and to edit."""
    from v2w_convert.checkpoint.source import open_source

    base = resolve_hub_id(base)
    if output.exists():
        raise V2WError(f"write the plan to {output}", "the file exists", "another name")
    source = open_source(base)
    if source.converted:
        raise V2WError(f"plan for {base}", "it is converted already", "the model that it was made of")
    from v2w_convert.plan.read import shipped_plans
    from v2w_convert.plan.registry import is_known, plan_for
    from v2w_convert.report import print_json, print_line

    if not is_known(source.class_name):
        _draft(source, output, json)
        return
    fitting = plan_for(source.class_name, source.config)
    write_text(output, shipped_plans()[fitting.name].read_text(encoding="utf-8"))
    print_line(f"{output}: the plan {fitting.name}, for {fitting.base}")
    if json:
        print_json({"ok": True, "plan": fitting.name, "file": str(output)})


def _draft(source: Any, output: Path, json: bool) -> None:
    """A plan for a class that none is shipped for."""
    from v2w_convert.draft.draft import draft
    from v2w_convert.draft.plan_text import identity_summary, open_questions, plan_text, sites_summary
    from v2w_convert.report import print_json, print_line, print_table, progress_bar

    with progress_bar(f"a plan for {source.class_name}"):
        drafted = draft(source.class_name, source.config, source.scheduler)
    write_text(output, plan_text(drafted))
    print_line(f"{output}: a draft for {source.class_name}, for which no plan is shipped")
    print_line(sites_summary(drafted))
    print_line(identity_summary(drafted))
    if open_ := open_questions(drafted):
        print_table("open, as the draft says too", ["where and what"], [[question] for question in open_])
    if json:
        found = {
            "sites": drafted.counts,
            "identity": drafted.gap,
            "holds": drafted.holds,
            "open": open_,
        }
        print_json({"ok": True, "plan": drafted.plan["name"], "file": str(output), "draft": True, **found})


def convert(
    base: Base,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="the folder to make")],
    action_dim: Annotated[
        int,
        typer.Option(
            "--action-dim",
            min=1,
            max=100_000,
            help="numbers in one action, times the video frames that make a latent frame",
        ),
    ],
    plan: PlanFile = None,
    transfer: Annotated[
        str | None, typer.Option("--transfer", help="kernel transfer: shift, masked or extrapolative")
    ] = None,
    frames_per_block: Annotated[
        int | None, typer.Option("--frames-per-block", min=1, help="frames that are made at once")
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", min=1, help="frames in view, the present ones included")
    ] = None,
    sinks: Annotated[
        int | None, typer.Option("--sinks", min=0, help="first frames of all that stay in view besides")
    ] = None,
    conditions: Annotated[
        Path | None,
        typer.Option("--conditions", help="a safetensors file: what is given where a caller gives nothing"),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="repair what makes frames of a released Vid2World see the future")
    ] = False,
    seed: Seed = 0,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="hard-link what is copied whole: a change to one file is then one to the other"
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="say what would be done and how much room it takes; write nothing"),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="then measure every claim, into OUT's model card; exit 1 if one fails"),
    ] = False,
    json: Json = False,
) -> None:
    """Plan -> a new checkpoint folder."""
    from v2w_convert.checkpoint.headers import read_header
    from v2w_convert.checkpoint.output import check_target

    if verify and dry_run:
        raise V2WError(
            f"convert into {output}", "--verify and --dry-run, after which nothing is there to verify", "one"
        )
    if conditions is not None:
        read_header(conditions)  # what is no such file is refused before torch is imported
    base = resolve_hub_id(base)
    wanted = {"transfer": transfer, "frames_per_block": frames_per_block, "window": window, "sinks": sinks}
    if output.is_dir() and (output / "v2w.json").is_file():
        if _already_converted(base, output, plan, wanted, repair, action_dim, seed, conditions):
            from v2w_convert.checkpoint.resumable import remove_leftovers
            from v2w_convert.report import print_line

            remove_leftovers(output)
            print_line(f"{output}: already converted")
            _ended({"ok": True, "output": str(output), "already converted": True}, base, output, verify, json)
            return
        raise V2WError(
            f"convert into {output}", "another plan, source or option made what is there", "a new folder"
        )
    check_target(output, base, f"convert into {output}")
    source, resolved = _resolve(base, plan, wanted, repair)
    from v2w_convert.checkpoint.preflight import check_writable, disk_space
    from v2w_convert.plan.coverage import require_coverage
    from v2w_convert.report import print_line, print_table, progress_bar
    from v2w_convert.surgery.convert import plan_conversion, write_conversion

    with error_context(base, plan):
        require_coverage(resolved.plan)
    planned = plan_conversion(source, resolved, action_dim=action_dim, seed=seed, conditions=conditions)
    fates = list(planned.tensors.values())
    counts = {fate: fates.count(fate) for fate in ("kept", "transferred", "added")}
    notes = list(source.notes)
    result: dict[str, Any] = {
        "ok": True,
        "output": str(output),
        "plan": resolved.plan.name,
        "tensors": counts,
        "notes": notes,
    }
    if dry_run:
        changes = {name: fate for name, fate in planned.tensors.items() if fate != "kept"}
        print_table(f"{base}: what would change", ["tensor", "fate"], changes.items())
        rows = [(item.path, f"{item.size:,}", f"{item.copied:,}") for item in planned.items]
        print_table(
            f"{output}: what would be written", ["file", "bytes", "of these copied as they are"], rows
        )
        found = disk_space(planned.items, output, link)
        print_line(f"{output}: {found.needed:,} bytes needed, {found.free:,} free")
        check_writable(planned.items, output, link)
        files = [{"path": i.path, "bytes": i.size, "copied": i.copied} for i in planned.items]
        space = {"needed": found.needed, "free": found.free}
        result |= {"dry run": True, "files": files, "changes": changes, "bytes": space}
    else:
        done, total = 0, sum(item.size for item in planned.items)
        with progress_bar("MB", total=total // MB) as update:

            def progress(count: int) -> None:
                nonlocal done
                done += count
                update(completed=done // MB)

            with error_context(base, plan):
                _, hashes = write_conversion(planned, output, link=link, progress=progress)
        if link:
            whole = [item.path for item in planned.items if item.is_copy]
            if copied := [path for path in whole if path not in hashes.linked]:
                notes.append(
                    f"{len(copied)} of {len(whole)} whole files are copies, where the file system gave no link"
                )
            result["linked"] = list(hashes.linked)
    verb = "would be " if dry_run else ""
    for note in notes:
        print_line(f"{base}: {note}")
    print_line(f"{output}: " + ", ".join(f"{count} tensors {verb}{fate}" for fate, count in counts.items()))
    _ended(result, base, output, verify, json)


def _ended(result: dict[str, Any], base: Path, output: Path, verify: bool, json: bool) -> None:
    """What follows a conversion that is there: its claims, if they are asked for, and the JSON."""
    from v2w_convert.cli.prove import measure
    from v2w_convert.report import print_json

    if verify:
        found = measure(output, base, card=True)
        result = {**result, "ok": found["ok"], "verify": found}
    if json:
        print_json(result)
    if not result["ok"]:
        raise typer.Exit(1)


def _resolve(
    base: Path, plan_file: Path | None, wanted: dict[str, Any] | None = None, repair: bool = False
) -> tuple[Any, Any]:
    """The source and its plan, with what is `wanted` of it (`plan.adjust`), resolved.

    What files alone reveal is refused before torch is imported.
    """
    from v2w_convert.checkpoint.source import open_source
    from v2w_convert.plan.document import read_document

    if plan_file is not None and repair:
        raise V2WError(f"convert {base}", "both --plan and --repair, which chooses one", "one of them")
    if plan_file is not None:
        read_document(plan_file)  # what is not even YAML is refused before torch is imported
    source = open_source(base)
    if source.converted:
        raise V2WError(f"convert {base}", "it is converted already", "v2w verify or v2w finetune")
    from v2w_convert.plan.adjust import adjust_plan
    from v2w_convert.plan.read import read_plan
    from v2w_convert.plan.registry import plan_for
    from v2w_convert.plan.resolve import resolve

    if plan_file is not None:
        plan = read_plan(plan_file)
    else:
        plan = plan_for(source.class_name, source.config, repair)
    if any(value is not None for value in (wanted or {}).values()):
        plan = adjust_plan(plan, **(wanted or {}))
    with error_context(base, plan_file):
        return source, resolve(plan, source.config, source.scheduler)


def _already_converted(
    base: Path,
    output: Path,
    plan_file: Path | None,
    wanted: dict[str, Any],
    repair: bool,
    action_dim: int,
    seed: int,
    conditions: Path | None,
) -> bool:
    source, resolved = _resolve(base, plan_file, wanted, repair)
    from v2w_convert.checkpoint.output import hashes_match
    from v2w_convert.surgery.conditions import conditions_match
    from v2w_convert.surgery.manifest import CONDITIONS, read_manifest

    manifest = read_manifest(output)
    return (
        conditions_match(resolved, conditions, output / CONDITIONS)
        and manifest.finetuning is None
        and manifest.plan == resolved.plan.model_dump(mode="json")
        and (manifest.action_dim, manifest.seed) == (action_dim, seed)
        and manifest.source["files"].keys() == {file.name for file in source.files}
        and hashes_match({file: manifest.source["files"][file.name] for file in source.files})
        and hashes_match({output / name: digest for name, digest in manifest.result.items()})
    )


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total

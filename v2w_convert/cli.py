"""`v2w`: parse, call one function, print its report. What is heavy is imported by the command that needs it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from v2w_convert.errors import V2WError

app = typer.Typer(
    help="Turn a pretrained video diffusion model into a world model, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Base = Annotated[Path, typer.Argument(metavar="BASE", help="a diffusers model or pipeline folder")]
Converted = Annotated[
    Path, typer.Argument(metavar="OUT", help="a folder that `v2w convert` or `v2w finetune` made")
]
Json = Annotated[
    bool, typer.Option("--json", help="print one JSON object as the last line of standard output")
]
Data = Annotated[Path, typer.Option("--data", help="a LeRobot v3 data set")]
Device = Annotated[str, typer.Option("--device", help="where to compute: cpu, cuda, cuda:1, mps")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="a plan of your own; else the shipped one that fits")
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="denoising steps per frame")]
Guidance = Annotated[float, typer.Option("--guidance", help="action guidance s; 1: none")]
Noise = Annotated[
    float, typer.Option("--context-noise", min=0, help="noise level that history is given; 0: clean")
]
Seed = Annotated[int, typer.Option("--seed", min=0)]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("v2w-convert"))
        raise typer.Exit


@app.command()
def inspect(base: Base, plan: PlanFile = None, json: Json = False) -> None:
    """Family, sizes, every module through which frames mix, and the plan that fits."""
    source, resolved = _resolve(base, plan)
    from v2w_convert.plan.resolve import uncovered
    from v2w_convert.report import fold, print_json, table
    from v2w_convert.surgery.convert import check_tensors, stored_dtype

    check_tensors(source, resolved)
    sizes = {
        "class": source.class_name,
        "parameters": sum(_count(info.shape) for info in source.tensors.values()),
        "dtype": str(stored_dtype(source)).removeprefix("torch."),
        "latent channels": resolved.channels,
        "window": resolved.window,
        "noise": f"{resolved.noise.kind}, prediction {resolved.noise.prediction}",
        "plan": resolved.plan.name,
    }
    table(str(base), ["what", "found"], sizes.items())
    rows = []
    for operation in resolved.plan.operations:
        paths = [path for path, chosen in resolved.sites.items() if chosen == operation]
        rows += [(operation.name, path, count) for path, count in fold(paths).items()]
    table("where the plan operates", ["operation", "modules", "count"], rows)
    missing = [site.name for site in uncovered(resolved.plan)]
    if missing:
        table(
            "frames mix here too, and the plan says nothing of it", ["module"], [[name] for name in missing]
        )
    if json:
        sites = {path: operation.name for path, operation in resolved.sites.items()}
        print_json({"ok": not missing, **sizes, "sites": sites, "uncovered": missing})


@app.command()
def plan(
    base: Base,
    output: Annotated[Path, typer.Option("-o", "--output", help="the YAML file to write")],
    json: Json = False,
) -> None:
    """Write the plan that fits, to read or to edit."""
    from v2w_convert.checkpoint.source import open_source

    if output.exists():
        raise V2WError(f"write the plan to {output}", "the file exists", "another name")
    source = open_source(base)
    from v2w_convert.plan.read import shipped
    from v2w_convert.plan.resolve import plan_for
    from v2w_convert.report import print_json, say

    fitting = plan_for(source.class_name)
    _write(output, shipped()[fitting.name].read_text(encoding="utf-8"))
    say(f"{output}: the plan {fitting.name}, for {fitting.base}")
    if json:
        print_json({"ok": True, "plan": fitting.name, "file": str(output)})


@app.command()
def convert(
    base: Base,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="the folder to make")],
    action_dim: Annotated[int, typer.Option("--action-dim", min=1, help="numbers in one action")],
    plan: PlanFile = None,
    transfer: Annotated[
        str | None, typer.Option("--transfer", help="kernel transfer: shift, masked or extrapolative")
    ] = None,
    seed: Seed = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done; write nothing")] = False,
    json: Json = False,
) -> None:
    """Plan -> a new checkpoint folder."""
    from v2w_convert.checkpoint.output import check_target

    if output.is_dir() and (output / "v2w.json").is_file():
        if _already_converted(base, output, plan, transfer, action_dim, seed):
            from v2w_convert.report import print_json, say

            say(f"{output}: already converted")
            if json:
                print_json({"ok": True, "output": str(output), "already converted": True})
            return
        raise V2WError(
            f"convert into {output}", "another plan, source or option made what is there", "a new folder"
        )
    check_target(output, base, f"convert into {output}")
    source, resolved = _resolve(base, plan, transfer)
    from v2w_convert.plan.resolve import require_coverage
    from v2w_convert.report import bar, print_json, say, table
    from v2w_convert.surgery.convert import check_tensors, fates
    from v2w_convert.surgery.convert import convert as perform

    require_coverage(resolved.plan)
    check_tensors(source, resolved)
    tensors = fates(source, resolved, action_dim)
    counts = {fate: sum(f == fate for f in tensors.values()) for fate in ("kept", "transferred", "added")}
    result: dict[str, Any] = {
        "ok": True,
        "output": str(output),
        "plan": resolved.plan.name,
        "tensors": counts,
    }
    if dry_run:
        rows = [(name, fate) for name, fate in tensors.items() if fate != "kept"]
        table(f"{base}: what would change", ["tensor", "fate"], rows)
        result["dry run"] = True
    else:
        done = 0
        with bar("tensors", total=counts["kept"] + counts["transferred"]) as update:

            def progress(name: str) -> None:
                nonlocal done
                done += 1
                update(completed=done)

            perform(source, resolved, output, action_dim=action_dim, seed=seed, progress=progress)
    verb = "would be " if dry_run else ""
    say(f"{output}: " + ", ".join(f"{count} tensors {verb}{fate}" for fate, count in counts.items()))
    if json:
        print_json(result)


@app.command()
def verify(
    converted: Converted,
    base: Annotated[Path | None, typer.Option("--base", help="what it was converted from")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="a folder for pictures and report.json")
    ] = None,
    json: Json = False,
) -> None:
    """Measure every claim on your own weights. Exit 1 if one does not hold."""
    _present(converted)
    if base is not None:
        _present(base)
    from v2w_convert.report import bar, fold, print_json, say, table
    from v2w_convert.verify.run import verify as measure

    with bar("verify") as update:
        found = measure(converted, base, report=report, progress=lambda what: update(description=what))
    result = found.as_json()
    rows = []
    for c in result["claims"]:
        state = "FAILS" if not c["ok"] else "-" if c["measured"] is None else "holds"
        rows.append((state, c["claim"], _figure(c["measured"]), _figure(c["allowed"])))
    table(str(converted), ["", "claim", "measured", "allowed"], rows)
    for c in result["claims"]:
        if not c["ok"]:
            culprits = ", ".join(fold(c["where"].split(", "))) or "no module could be blamed"
            say(f"FAILS: {c['claim']}: {culprits} ({c['how']})")
    if json:
        print_json(result)
    if not result["ok"]:
        raise typer.Exit(1)


@app.command()
def finetune(
    converted: Converted,
    data: Data,
    output: Annotated[
        Path, typer.Option("--output-dir", help="the run's folder; an unfinished run is resumed")
    ],
    steps: Annotated[int, typer.Option("--steps", help="optimizer steps")] = 1000,
    batch: Annotated[int, typer.Option("--batch", help="clips to a step")] = 8,
    gradient_accumulation: Annotated[
        int, typer.Option("--gradient-accumulation", help="parts of a batch")
    ] = 1,
    frames: Annotated[int, typer.Option("--frames", help="frames to a clip")] = 16,
    lr: Annotated[
        float, typer.Option("--lr", help="peak learning rate; 1e-5 for a base of a billion")
    ] = 3e-4,
    lr_scheduler: Annotated[str, typer.Option("--lr-scheduler", help="as in diffusers")] = "cosine",
    action_dropout: Annotated[
        float, typer.Option("--action-dropout", help="share of actions left out")
    ] = 0.2,
    ema_decay: Annotated[float, typer.Option("--ema-decay", help="of the weights that are kept")] = 0.999,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="save memory")
    ] = False,
    mixed_precision: Annotated[str, typer.Option("--mixed-precision", help="no, bf16 or fp16")] = "no",
    validation: Annotated[Path | None, typer.Option("--validation", help="a held-out data set")] = None,
    validate_every: Annotated[int, typer.Option("--validate-every", help="steps")] = 250,
    checkpoint_every: Annotated[int, typer.Option("--checkpoint-every", help="steps")] = 250,
    camera: Annotated[str | None, typer.Option("--camera", help="which video of the data set")] = None,
    seed: Seed = 0,
    device: Annotated[
        str | None, typer.Option("--device", help="where to train; else the best there is")
    ] = None,
    json: Json = False,
) -> None:
    """Complete the transfer on action data, by diffusion forcing. Run it again to resume."""
    given = {
        name: value
        for name, value in locals().items()
        if name not in ("converted", "output", "device", "json")
    }
    for folder in filter(None, (converted, data, validation)):
        _present(folder)
    from pydantic import ValidationError

    from v2w_convert.finetune.settings import Progress, Settings
    from v2w_convert.report import bar, print_json, say

    try:
        settings = Settings(**{name: value for name, value in given.items() if name != "data"})
    except ValidationError as error:
        faults = [f"--{'-'.join(map(str, e['loc'])).replace('_', '-')}: {e['msg']}" for e in error.errors()]
        raise V2WError("finetune", faults, "v2w finetune --help") from None
    from v2w_convert.finetune.finetune import finetune as train

    with bar("finetune", total=steps) as update:

        def show(now: Progress) -> None:
            loss = "" if now.loss is None else f", loss {now.loss:.4f}"
            update(
                completed=now.done,
                total=now.total,
                description=f"{now.task}{loss}, {now.seconds_left:.0f} s left",
            )

        result = train(converted, data, output, settings, progress=show, device=device)
    say(f"{output}: a world model after {steps} steps")
    if json:
        print_json({"ok": True, **result})


@app.command()
def rollout(
    world: Annotated[Path, typer.Argument(metavar="RUN", help="a converted or finetuned model")],
    data: Data,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="an .mp4, .gif or .png (contact sheet) to write")
    ],
    episode: Annotated[int, typer.Option("--episode", min=0)] = 0,
    history: Annotated[int, typer.Option("--history", min=1, help="frames that are shown first")] = 8,
    frames: Annotated[int, typer.Option("--frames", min=1, help="frames to roll out")] = 32,
    steps: Steps = 10,
    guidance: Guidance = 1.0,
    context_noise: Noise = 0.0,
    seed: Seed = 0,
    camera: Annotated[str | None, typer.Option("--camera")] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Autoregressive rollout beside the truth, and the same start with other actions."""
    _present(world)
    _present(data)
    if output.exists():
        raise V2WError(f"write a rollout to {output}", "the file exists", "another name")
    from v2w_convert.evaluate.show import show
    from v2w_convert.report import print_json, say
    from v2w_convert.world.rollout import Sampling

    sampling = Sampling(steps, guidance, context_noise)
    result = show(world, data, output, episode, history, frames, sampling, seed, camera, device)
    say(f"{output}: truth | rollout | same start, other actions; {sampling}, history {history}, seed {seed}")
    if json:
        print_json({"ok": True, **result})


@app.command()
def evaluate(
    world: Annotated[Path, typer.Argument(metavar="RUN", help="a finetuned model")],
    data: Data,
    classifier_data: Annotated[
        Path | None,
        typer.Option("--classifier-data", help="other episodes, to train the action classifier on"),
    ] = None,
    history: Annotated[int, typer.Option("--history", min=1, help="frames that are shown first")] = 8,
    episodes: Annotated[
        int | None, typer.Option("--episodes", min=2, help="the first so many; else all")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="rollouts whose mean is measured too")] = 4,
    long_frames: Annotated[
        int, typer.Option("--long-frames", min=0, help="length of the long rollouts")
    ] = 200,
    steps: Steps = 10,
    guidance: Guidance = 1.0,
    context_noise: Noise = 0.0,
    seed: Seed = 0,
    camera: Annotated[str | None, typer.Option("--camera")] = None,
    device: Device = "cpu",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="a JSON file for the figures")] = None,
    json: Json = False,
) -> None:
    """Video and action-following metrics by horizon, beside baselines, with intervals over episodes."""
    for folder in filter(None, (world, data, classifier_data)):
        _present(folder)
    if output is not None and output.exists():
        raise V2WError(f"write figures to {output}", "the file exists", "another name")
    from json import dumps

    from v2w_convert.evaluate.run import Protocol
    from v2w_convert.evaluate.run import evaluate as measure
    from v2w_convert.evaluate.show import rows_of
    from v2w_convert.report import bar, print_json, say, table
    from v2w_convert.world.rollout import Sampling

    protocol = Protocol(
        history=history,
        samples=samples,
        episodes=episodes,
        long_frames=long_frames,
        seed=seed,
        sampling=Sampling(steps, guidance, context_noise),
    )
    with bar("evaluate") as update:
        result = measure(
            world,
            data,
            protocol,
            classifier_data=classifier_data,
            camera=camera,
            device=device,
            progress=lambda what: update(description=what),
        )
    say(", ".join(f"{k} {v}" for k, v in result["settings"].items()))
    for title, columns, rows in rows_of(result):
        table(title, columns, rows)
    if output is not None:
        _write(output, dumps(result, indent=1) + "\n")
    if json:
        print_json({"ok": True, **result})


@app.command()
def export(
    converted: Converted,
    output: Annotated[Path, typer.Option("-o", "--output", help="the .onnx file to write")],
    height: Annotated[
        int | None, typer.Option("--height", min=1, help="latent height; else the config's")
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=1, help="latent width; else the config's")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="rollouts side by side")] = 1,
    window: Annotated[
        int | None, typer.Option("--window", min=1, help="frames in view, where the plan has none")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="frames of the check against torch")] = 32,
    json: Json = False,
) -> None:
    """One streamed denoising step as an ONNX graph, checked against torch. Exit 1 if they differ."""
    _present(converted)
    from v2w_convert.export.target import require_packages, require_target

    require_target(output)
    require_packages()
    from v2w_convert.export.onnx import export as write
    from v2w_convert.report import print_json, say

    result = write(converted, output, b=batch, h=height, w=width, window=window, frames=frames)
    far = result["largest_difference"]
    found = "not a finite number" if far is None else f"{far:.1e}"
    what = f"onnxruntime differs from torch over {result['frames']} frames by {found} (allowed {result['allowed']:.0e})"
    say(f"{output}: {result['bytes']} bytes; {what}" if result["ok"] else f"{output} is not written: {what}")
    if json:
        print_json(result)
    if not result["ok"]:
        raise typer.Exit(1)


def main() -> None:
    """The console entry: exit 0 done, 1 a claim does not hold, 2 the user's mistake (one line, no traceback)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """`v2w` with `arguments`; returns the exit code."""
    from v2w_convert.report import print_error

    as_json = "--json" in arguments
    try:
        code = app(arguments, prog_name="v2w", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except V2WError as error:
        print_error(error, as_json)
    except KeyboardInterrupt:
        sys.stderr.write("v2w: interrupted\n")
        return 130
    except Exception as error:
        message: Callable[[], str] | None = getattr(error, "format_message", None)
        if message is None:  # not a usage error of the command line's parser
            if type(error).__name__ == "Abort":
                return 130
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2
        command = (
            " ".join(["v2w", *arguments[:1]]) if arguments and not arguments[0].startswith("-") else "v2w"
        )
        print_error(V2WError(f"run {command}", message().rstrip("."), f"{command} --help"), as_json)
    return 2


def _resolve(base: Path, plan_file: Path | None, transfer: str | None = None) -> tuple[Any, Any]:
    """The source and its resolved plan. What files alone reveal is refused before torch is imported."""
    from v2w_convert.checkpoint.source import open_source

    if plan_file is not None and not plan_file.is_file():
        raise V2WError(f"read the plan {plan_file}", "no such file", "v2w plan BASE -o plan.yaml writes one")
    source = open_source(base)
    if source.converted:
        raise V2WError(f"convert {base}", "it is converted already", "v2w verify or v2w finetune")
    from v2w_convert.plan.read import read_plan
    from v2w_convert.plan.resolve import plan_for, resolve, with_transfer

    plan = read_plan(plan_file) if plan_file is not None else plan_for(source.class_name)
    if transfer is not None:
        plan = with_transfer(plan, transfer)
    return source, resolve(plan, source.config, source.scheduler)


def _already_converted(
    base: Path, output: Path, plan_file: Path | None, transfer: str | None, action_dim: int, seed: int
) -> bool:
    source, resolved = _resolve(base, plan_file, transfer)
    from v2w_convert.checkpoint.output import sha256
    from v2w_convert.surgery.manifest import read_manifest

    manifest = read_manifest(output)
    return (
        manifest.stage == "converted"
        and manifest.plan == resolved.plan.model_dump(mode="json")
        and (manifest.action_dim, manifest.seed) == (action_dim, seed)
        and manifest.source["files"] == {f.name: sha256(f) for f in source.files}
        and all(
            (output / name).is_file() and sha256(output / name) == h for name, h in manifest.result.items()
        )
    )


def _present(folder: Path) -> None:
    if not folder.is_dir():
        raise V2WError(f"read {folder}", "no such folder", "check the path")


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise V2WError(f"write {file}", error.strerror or str(error)) from None


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

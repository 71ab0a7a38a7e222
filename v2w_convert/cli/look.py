"""What a world model does: pictures and figures."""

from pathlib import Path
from typing import Annotated

import typer

from v2w_convert.cli.options import (
    Camera,
    Data,
    Device,
    Guidance,
    History,
    Json,
    Noise,
    Seed,
    Steps,
    present,
    write_text,
)
from v2w_convert.errors import V2WError


def rollout(
    world: Annotated[Path, typer.Argument(metavar="RUN", help="a converted or finetuned model")],
    data: Data,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="an .mp4, .gif or .png (contact sheet) to write")
    ],
    episode: Annotated[int, typer.Option("--episode", min=0)] = 0,
    history: History = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="video frames to roll out")] = 32,
    steps: Steps = 10,
    guidance: Guidance = 1.0,
    context_noise: Noise = 0.0,
    seed: Seed = 0,
    camera: Camera = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Autoregressive rollout beside the truth, and the same start with other actions."""
    present(world)
    present(data)
    from dataclasses import asdict

    from v2w_convert.evaluation.rollout_video import rollout as write
    from v2w_convert.evaluation.settings import RolloutSettings
    from v2w_convert.report import print_json, print_line

    settings = RolloutSettings(
        steps=steps,
        guidance=guidance,
        context_noise=context_noise,
        history=history,
        seed=seed,
        camera=camera,
        device=device,
        episode=episode,
        frames=frames,
    )
    result = write(world, data, output, settings)
    used = ", ".join(f"{name} {value}" for name, value in result.settings.items())
    print_line(f"{output}: {' | '.join(result.panels)}; {used}")
    if json:
        print_json({"ok": True, **asdict(result)})


def evaluate(
    world: Annotated[Path, typer.Argument(metavar="RUN", help="a finetuned model")],
    data: Data,
    classifier_data: Annotated[
        Path | None,
        typer.Option("--classifier-data", help="other episodes, to train the action classifier on"),
    ] = None,
    history: History = None,
    episodes: Annotated[
        int | None, typer.Option("--episodes", min=2, help="the first so many; else all")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="rollouts whose mean is measured too")] = 4,
    long_frames: Annotated[
        int, typer.Option("--long-frames", min=0, help="length of the long rollouts, in video frames")
    ] = 200,
    steps: Steps = 10,
    guidance: Guidance = 1.0,
    context_noise: Noise = 0.0,
    seed: Seed = 0,
    camera: Camera = None,
    device: Device = "auto",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="a JSON file for the figures")] = None,
    json: Json = False,
) -> None:
    """Video and action-following metrics by horizon, beside baselines, with intervals over episodes."""
    for folder in filter(None, (world, data, classifier_data)):
        present(folder)
    if output is not None and output.exists():
        raise V2WError(f"write figures to {output}", "the file exists", "another name")
    from dataclasses import asdict
    from json import dumps

    from v2w_convert.evaluation.evaluate import evaluate as measure
    from v2w_convert.evaluation.settings import EvaluateSettings
    from v2w_convert.evaluation.tables import tables
    from v2w_convert.report import print_json, print_line, print_table, progress_bar

    settings = EvaluateSettings(
        steps=steps,
        guidance=guidance,
        context_noise=context_noise,
        history=history,
        seed=seed,
        camera=camera,
        device=device,
        samples=samples,
        episodes=episodes,
        classifier_data=classifier_data,
        long_frames=long_frames,
    )
    with progress_bar("evaluate") as update:
        result = measure(world, data, settings, progress=lambda now: update(description=now.detail))
    used = ", ".join(f"{name} {value}" for name, value in result.settings.items())
    print_line(
        f"{result.world} on {result.clips} clips of {result.episodes} episodes of {result.data}; {used}"
    )
    for table in tables(result):
        print_table(*table)
    if output is not None:
        write_text(output, dumps(asdict(result), indent=1) + "\n")
    if json:
        print_json({"ok": True, **asdict(result)})

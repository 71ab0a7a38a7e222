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
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Autoregressive rollout beside the truth, and the same start with other actions."""
    present(world)
    present(data)
    if output.exists():
        raise V2WError(f"write a rollout to {output}", "the file exists", "another name")
    from v2w_convert.evaluation.show import show
    from v2w_convert.report import print_json, print_line
    from v2w_convert.world.rollout import Sampling

    sampling = Sampling(steps, guidance, context_noise)
    result = show(world, data, output, episode, history, frames, sampling, seed, camera, device)
    print_line(
        f"{output}: truth | rollout | same start, other actions; {sampling}, history {result['history']}, seed {seed}"
    )
    if json:
        print_json({"ok": True, **result})


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
    device: Device = "cpu",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="a JSON file for the figures")] = None,
    json: Json = False,
) -> None:
    """Video and action-following metrics by horizon, beside baselines, with intervals over episodes."""
    for folder in filter(None, (world, data, classifier_data)):
        present(folder)
    if output is not None and output.exists():
        raise V2WError(f"write figures to {output}", "the file exists", "another name")
    from json import dumps

    from v2w_convert.evaluation.run import Protocol
    from v2w_convert.evaluation.run import evaluate as measure
    from v2w_convert.evaluation.show import rows_of
    from v2w_convert.report import print_json, print_line, print_table, progress_bar
    from v2w_convert.world.rollout import Sampling

    protocol = Protocol(
        history=history,
        samples=samples,
        episodes=episodes,
        long_frames=long_frames,
        seed=seed,
        sampling=Sampling(steps, guidance, context_noise),
    )
    with progress_bar("evaluate") as update:
        result = measure(
            world,
            data,
            protocol,
            classifier_data=classifier_data,
            camera=camera,
            device=device,
            progress=lambda what: update(description=what),
        )
    print_line(", ".join(f"{k} {v}" for k, v in result["settings"].items()))
    for title, columns, rows in rows_of(result):
        print_table(title, columns, rows)
    if output is not None:
        write_text(output, dumps(result, indent=1) + "\n")
    if json:
        print_json({"ok": True, **result})

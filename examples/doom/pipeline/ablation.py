"""What helps against drift? The same world trained further in several ways, each rolled out for many frames.

    python -m examples.doom.pipeline.ablation --world WORLD --data TRAIN --test TEST --output build/ablation --steps 300

WORLD is a run of `v2w finetune`. All are continued from it with the same data, seed, learning rate and number of steps, by `v2w`
commands. What is there already is kept, so the same command goes on where it was stopped. `ablation.md` has the table.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from examples.doom.pipeline.bakeoff import require_same, table
from examples.doom.pipeline.commands import v2w
from v2w_convert import EvaluateResult, EvaluateSettings, evaluate
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.result import DriftFigures
from v2w_convert.new_file import write_text
from v2w_convert.strict_json import read_object

TRAINING = ("--lr", 2e-4, "--batch", 8, "--frames", 16)
NOISE = 100  # of 1,000 timesteps, for history
GUIDED = {"history_guidance": 1.5, "history_guidance_noise": 500.0}  # of 1,000 timesteps
CELLS = "cells.json"
SAME = (
    "world",
    "steps",
    "sampling_steps",
    "frames",
    "rollouts",
    "episodes",
    "classifier_data",
)  # options that make arms comparable


class Arm(NamedTuple):
    """One way: flags of `v2w finetune`, None where nothing is trained; how it is rolled out; and whose run is, if not its own."""

    flags: tuple[object, ...] | None
    sampling: dict[str, Any] = {}
    run_of: str | None = None


ARMS = {
    "as it is": Arm(None),
    "as it is, history noised in rollouts": Arm(None, {"context_noise": float(NOISE)}),
    "trained further": Arm(()),
    "clean history": Arm(("--clean-history", 0.5)),
    "noised history": Arm(
        ("--clean-history", 0.5, "--history-noise", NOISE), {"context_noise": float(NOISE)}
    ),
    "self-history": Arm(("--self-history", 0.5)),
    "self-history, noised": Arm(
        ("--self-history", 0.5, "--history-noise", NOISE), {"context_noise": float(NOISE)}
    ),
    "error of the clean frame": Arm(("--loss-target", "sample")),
    "consistency": Arm(("--consistency", 1.0, "--clean-history", 0.5)),
    "as it is, history guidance": Arm(None, GUIDED),
    "history guidance": Arm(None, GUIDED | {"context_noise": float(NOISE)}, "self-history, noised"),
}


def measure(arm: Arm, output: Path, options: argparse.Namespace) -> None:
    """Train and evaluate in `output`; `CELLS` comes last."""
    world = options.world
    if arm.run_of is not None:
        world = output.parent / _folder(arm.run_of) / "run"
        if not world.is_dir():
            raise V2WError(
                f"roll out {arm.run_of!r} in another way", f"there is no {world}", "that arm before it"
            )
    if arm.flags is not None:
        world = output / "run"
        words = (
            "--data",
            options.data,
            "-o",
            world,
            "--steps",
            options.steps,
            "--cache",
            output.parent / "latents",
        )
        v2w("finetune", options.world, *words, *TRAINING, *arm.flags, "--device", options.device)
    settings = EvaluateSettings(
        steps=options.sampling_steps,
        samples=1,
        long_frames=options.frames,
        long_rollouts=options.rollouts,
        episodes=options.episodes,
        classifier_data=(options.classifier_data or options.data) if options.inverse_dynamics else None,
        device=options.device,
        **arm.sampling,
    )
    found = evaluate(world, options.test, settings)
    output.mkdir(exist_ok=True)
    write_text(output / CELLS, json.dumps(cells(found), indent=1) + "\n")


def cells(found: EvaluateResult) -> dict[str, str]:
    """A row of the table: quality of the first frames, and of the second tenth and the last tenth of long rollouts."""
    row = {f"PSNR, {ahead} ahead (dB)": f"{found.horizons[ahead].psnr.mean:.2f}" for ahead in (1, 16)}
    if found.long_horizon is not None:
        for part in (found.long_horizon.drift[1], found.long_horizon.drift[-1]):
            row |= _late(part)
    return row


def _late(part: DriftFigures) -> dict[str, str]:
    """Of frames of long rollouts."""
    frames = f"frames {part.first} to {part.last}"
    shares = {"within round-tripped": part.within_round_tripped, "detail": part.detail}
    row = {
        f"{name}, {frames}": f"{value.mean:.0%} [{value.low:.0%}, {value.high:.0%}]"
        for name, value in shares.items()
    }
    return row | {f"{name} read, {frames}": f"{value:.2f}" for name, value in part.inverse_dynamics.items()}


def _folder(arm: str) -> str:
    return arm.replace(" ", "-").replace(",", "")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", type=Path, required=True, help="a run of `v2w finetune`")
    parser.add_argument("--data", type=Path, required=True, help="what it is trained further on")
    parser.add_argument("--test", type=Path, required=True, help="what it is measured on")
    parser.add_argument(
        "--classifier-data",
        type=Path,
        help="what the network that reads actions is trained on; default: all of --data",
    )
    parser.add_argument("--output", type=Path, default=Path("build/ablation"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--steps", type=int, default=300, help="of finetuning")
    parser.add_argument("--sampling-steps", type=int, default=2, help="of denoising")
    parser.add_argument("--frames", type=int, default=1000, help="of a long rollout")
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--episodes", type=int, help="of the test data: the first ones; default: all")
    parser.add_argument(
        "--no-inverse-dynamics",
        dest="inverse_dynamics",
        action="store_false",
        help="do not measure how well actions are read from frames",
    )
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(words)
    output: Path = options.output.resolve()
    try:
        output.mkdir(parents=True, exist_ok=True)
        require_same(output / "options.json", {name: str(getattr(options, name)) for name in SAME})
        rows: dict[str, dict[str, str]] = {}
        for name in options.arms:
            folder = output / _folder(name)
            if not (folder / CELLS).exists():
                measure(ARMS[name], folder, options)
            rows[name] = read_object(folder / CELLS)
            write_text(output / "ablation.md", table(rows, "arm"), replace=True)
    except V2WError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(table(rows, "arm"))


if __name__ == "__main__":
    main()

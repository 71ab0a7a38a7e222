"""Which scenario should the world model be for? Short runs of the same length on each, set side by side.

    python -m examples.doom.pipeline.bakeoff --output build/bakeoff --base examples/doom/base \\
        --scenarios health_gathering deathmatch my_way_home health_gathering_supreme --steps 300

Each scenario is recorded; the base is converted, finetuned for `--steps` and evaluated on held-out episodes, all by `v2w`
commands. What is there already is kept, so the same command goes on where it was stopped. `bakeoff.md` has the table.
A base that saw a scenario in pretraining, without actions, has an advantage there: the table cannot take it away.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from examples.doom.pipeline.pictures import read_frames, write_sheet
from examples.doom.pipeline.record import NAMES, SEEDS, record
from v2w_convert.console import print_line
from v2w_convert.errors import V2WError
from v2w_convert.new_file import write_text

SHORT = ("--lr", 4e-4, "--batch", 4, "--frames", 12)  # less than a run that is meant
SAMPLING_STEPS = 4
HORIZONS = ("1", "4", "8", "16")
COLUMNS = [
    *(f"above copying, {horizon} ahead (dB)" for horizon in HORIZONS),
    "true minus other actions, 4 ahead (dB)",
    "inverse dynamics, generated",
    "round-tripped",
    "always the same",
    "autoencoder alone (dB)",
]


def v2w(*arguments: object) -> None:
    """Run one command as a user would.

    Raises:
        SystemExit: It failed; with its exit code.
    """
    words = [str(a) for a in arguments]
    print_line("$ v2w " + " ".join(words))
    done = subprocess.run([sys.executable, "-m", "v2w_convert", *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def measure(scenario: str, converted: Path, output: Path, options: argparse.Namespace) -> None:
    """Record, finetune and evaluate in `output`; figures.json comes last."""
    sizes = {"train": options.frames, "test": options.test_frames}
    for use, frames in sizes.items():
        if not (output / use).exists():
            record(scenario, SEEDS[use], frames, output / use)
    train, test, run = output / "train", output / "test", output / "run"
    first = read_frames([test])[0].permute(0, 2, 3, 1).numpy()
    write_sheet([first[:48:4]], output / "sheet.png")
    device = ("--device", options.device)
    v2w("finetune", converted, "--data", train, "-o", run, "--steps", options.steps, *SHORT, *device)
    less = ("--samples", 1, "--long-frames", 0, "--steps", SAMPLING_STEPS)
    out = ("-o", output / "figures.json", "--classifier-data", train, *less, *device)
    v2w("evaluate", run, "--data", test, *out)


def row(figures: dict[str, Any]) -> list[str]:
    """The cells of `COLUMNS`. PSNR above copying is a difference of means; intervals are in figures.json."""
    found, baselines = figures["horizons"], figures["baselines"]
    above = [found[h]["psnr"]["mean"] - baselines["last_frame_copied"][h]["psnr"]["mean"] for h in HORIZONS]
    gap, actions = figures["actions"]["psnr_gap"]["4"], figures["actions"]["inverse_dynamics"]
    cells = [f"{x:+.2f}" for x in above] + [f"{gap['mean']:.2f} [{gap['low']:.2f}, {gap['high']:.2f}]"]
    for name in ("generated", "round_tripped"):
        cells.append(f"{100 * actions[name]['mean']:.0f} %" if actions else "not measured")
    cells.append(f"{100 * actions['majority_class']:.0f} %" if actions else "not measured")
    return [*cells, f"{baselines['autoencoder_alone']['1']['psnr']['mean']:.1f}"]


def table(rows: Iterable[tuple[str, list[str]]]) -> str:
    """A table in Markdown."""
    lines = [["scenario", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    lines += [[name, *cells] for name, cells in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/bakeoff"))
    parser.add_argument("--base", type=Path, default=Path("examples/doom/base"))
    parser.add_argument("--scenarios", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=300, help="of finetuning")
    parser.add_argument("--frames", type=int, default=8000, help="recorded for finetuning, by scenario")
    parser.add_argument("--test-frames", type=int, default=600)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    output: Path = options.output.resolve()
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not (output / "converted").exists():
            v2w("convert", options.base, "-o", output / "converted", "--action-dim", len(NAMES))
        rows = []
        for scenario in options.scenarios:
            if not (output / scenario / "figures.json").exists():
                measure(scenario, output / "converted", output / scenario, options)
            figures = json.loads((output / scenario / "figures.json").read_text("utf-8"))
            rows.append((scenario, row(figures)))
            write_text(output / "bakeoff.md", table(rows), replace=True)
    except V2WError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()

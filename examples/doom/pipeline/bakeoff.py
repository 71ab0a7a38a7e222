"""Which scenario should the world model be for? Short runs of the same length on each, set side by side.

    python -m examples.doom.pipeline.bakeoff --output build/bakeoff --base examples/doom/base \\
        --scenarios health_gathering deathmatch my_way_home health_gathering_supreme --steps 300

Each scenario is recorded; the base is converted, finetuned for `--steps` and evaluated on held-out episodes, all by `v2w`
commands. What is there already is kept, so the same command goes on where it was stopped. `bakeoff.md` has the table.
A base that saw a scenario in pretraining, without actions, has an advantage there: the table cannot take it away.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from examples.doom.pipeline.commands import v2w
from examples.doom.pipeline.pictures import read_frames, write_sheet
from examples.doom.pipeline.record import NAMES, SEEDS, record
from v2w_convert import EvaluateResult, EvaluateSettings, evaluate
from v2w_convert.errors import V2WError
from v2w_convert.new_file import write_text
from v2w_convert.strict_json import read_object

SHORT = ("--lr", 4e-4, "--batch", 4, "--frames", 12)  # less than a run that is meant
SAMPLING_STEPS = 4
CELLS = "cells.json"
SAME = ("steps", "frames", "test_frames")  # options that make runs comparable


def measure(scenario: str, converted: Path, output: Path, options: argparse.Namespace) -> None:
    """Record, finetune and evaluate in `output`; `CELLS` comes last."""
    sizes = {"train": options.frames, "test": options.test_frames}
    for use, frames in sizes.items():
        if not (output / use).exists():
            record(scenario, SEEDS[use], frames, output / use)
    train, test, world = output / "train", output / "test", output / "run"
    first = read_frames([test])[0].permute(0, 2, 3, 1).numpy()
    write_sheet([first[:48:4]], output / "sheet.png")
    device = ("--device", options.device)
    v2w("finetune", converted, "--data", train, "-o", world, "--steps", options.steps, *SHORT, *device)
    settings = EvaluateSettings(
        steps=SAMPLING_STEPS,
        samples=1,
        long_frames=0,
        classifier_data=train if options.inverse_dynamics else None,
        device=options.device,
    )
    found = evaluate(world, test, settings)
    write_text(output / CELLS, json.dumps(cells(found), indent=1) + "\n")


def cells(found: EvaluateResult) -> dict[str, str]:
    """A row of the table. PSNR above copying is a difference of means."""
    copied, alone = found.baselines.last_frame_copied, found.baselines.autoencoder_alone
    row = {
        f"above copying, {h} ahead (dB)": f"{figures.psnr.mean - copied[h].psnr.mean:+.2f}"
        for h, figures in found.horizons.items()
    }
    gap = found.actions.psnr_gap[4]
    row["true minus other actions, 4 ahead (dB)"] = f"{gap.mean:.2f} [{gap.low:.2f}, {gap.high:.2f}]"
    for part in found.actions.inverse_dynamics:
        said = [part.generated.mean, part.round_tripped.mean, part.ignoring_actions]
        title = f"{part.name}: {part.measure}, generated / round-tripped / ignoring actions"
        row[title] = " / ".join(f"{value:.2f}" for value in said)
    return row | {"autoencoder alone (dB)": f"{alone[1].psnr.mean:.1f}"}


def table(rows: dict[str, dict[str, str]], what: str = "scenario") -> str:
    """A table in Markdown: cells by what the rows are, and within it by column."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [[what, *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def require_same(file: Path, options: dict[str, Any]) -> None:
    """Refuse a folder of runs with other options; write them to `file` if there is none."""
    if not file.exists():
        write_text(file, json.dumps(options) + "\n")
    elif (before := read_object(file)) != options:
        raise V2WError(f"compare in {file.parent}", f"its runs have {before}, not {options}", "a new folder")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/bakeoff"))
    parser.add_argument("--base", type=Path, default=Path("examples/doom/base"))
    parser.add_argument("--scenarios", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=300, help="of finetuning")
    parser.add_argument("--frames", type=int, default=8000, help="recorded for finetuning, by scenario")
    parser.add_argument("--test-frames", type=int, default=600)
    parser.add_argument(
        "--no-inverse-dynamics",
        dest="inverse_dynamics",
        action="store_false",
        help="do not measure how well actions are read from frames, which takes as long as the rest",
    )
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(words)
    output: Path = options.output.resolve()
    try:
        output.mkdir(parents=True, exist_ok=True)
        require_same(output / "options.json", {name: getattr(options, name) for name in SAME})
        if not (output / "converted").exists():
            v2w("convert", options.base, "-o", output / "converted", "--action-dim", len(NAMES))
        rows: dict[str, dict[str, str]] = {}
        for scenario in options.scenarios:
            if not (output / scenario / CELLS).exists():
                measure(scenario, output / "converted", output / scenario, options)
            rows[scenario] = read_object(output / scenario / CELLS)
            write_text(output / "bakeoff.md", table(rows), replace=True)
    except V2WError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()

"""A world to step into, and the whole path to it on a real, small checkpoint: convert, verify, finetune briefly, evaluate.

    python examples/doom/demo.py --output demo

Every step is a `v2w` command, printed as it is run; copy them and put your own folders in. Needs nothing
but this folder: the base, a slice of recorded episodes and a world model that was finetuned for longer.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from v2w_convert.console import print_line, print_table

HERE = Path(os.path.relpath(Path(__file__).parent))  # short, as a user would type it
MARK = "made-by-demo.txt"
BRIEFLY = 60  # steps of finetuning
EPISODES = 8  # of the test set, for the figures
FEW = ("--steps", 2)  # of denoising


def v2w(*arguments: object) -> dict[str, Any]:
    """Run one command as a user would; its JSON."""
    words = [str(a) for a in arguments]
    print_line("")
    print_line("$ v2w " + " ".join(words))
    command = [sys.executable, "-m", "v2w_convert", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"v2w {words[0]} ended with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def invite(world: Path) -> None:
    """Say how to play."""
    print_line("To step into it yourself:")
    print_line(f"  {Path(sys.executable).with_name('v2w')} play {world} --steps {FEW[1]}")
    print_line(
        "and open http://127.0.0.1:8000/ in a browser. Keys, touch or a gamepad move you; Ctrl-C ends it. With "
        "--engine onnx frames are made faster, after a first start that takes longer."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("demo"))
    out: Path = parser.parse_args().output
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise SystemExit(f"{out} is not empty and was not made by this demo: name another folder")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text(
        "Made by examples/doom/demo.py, which empties this folder when it is run again.\n"
    )
    begun = time.monotonic()

    train, test, world = HERE / "data/train", HERE / "data/test", HERE / "world"
    print_line(f"A world model of Doom is in {world}.")
    invite(world)
    moving = out / "long.gif"
    v2w("rollout", world, "--data", test, "-o", moving, "--episode", 2, "--frames", 100, *FEW)
    print_line(
        f"{moving}: a hundred frames of it, beside the recording while that lasts. How it was made, in short:"
    )

    v2w("inspect", HERE / "base")
    v2w("convert", HERE / "base", "-o", out / "converted", "--action-dim", 3)
    claims = v2w("verify", out / "converted", "--base", HERE / "base", "-o", out / "verify")["claims"]
    v2w("finetune", out / "converted", "--data", train, "-o", out / "briefly", "--steps", BRIEFLY)
    figures = {}
    for name, model in (
        ("finetuned here, briefly", out / "briefly"),
        ("finetuned for longer, shipped", world),
    ):
        slug = model.name
        for kind in ("mp4", "png"):
            v2w("rollout", model, "--data", test, "-o", out / f"{slug}.{kind}", "--episode", 4, *FEW)
        more = (*FEW, "--episodes", EPISODES, "--samples", 1, "--long-frames", 0, "-o", out / f"{slug}.json")
        figures[name] = v2w("evaluate", model, "--data", test, *more)
    v2w("export", world, "-o", out / "step.onnx")

    held = sum(claim["ok"] for claim in claims)
    first = next(iter(figures.values()))
    copied = first["baselines"]["last_frame_copied"]
    horizons = list(first["horizons"])
    rows = [["copying the last frame", *(f"{copied[x]['psnr']['mean']:.2f}" for x in horizons), ""]]
    for name, found in figures.items():
        gap = found["actions"]["psnr_gap"]["4"]["mean"]
        rows.append([name, *(f"{found['horizons'][x]['psnr']['mean']:.2f}" for x in horizons), f"{gap:.2f}"])
    print_line("")
    print_table(
        f"PSNR (dB) by frames ahead, one sample, {EPISODES} test episodes; gap: true minus other actions, 4 ahead",
        ["", *horizons, "gap"],
        rows,
    )
    print_line(f"{held} of {len(claims)} claims hold. {(time.monotonic() - begun) / 60:.1f} minutes.")
    print_line(f"To look at, in {out}/:")
    for file, what in {
        "verify/report.html": "every claim, explained, with pictures: open it in a browser",
        "verify/influence.png": "which output frame depends on which input frame, before and after",
        "world.mp4": "truth | rollout | same start, other actions",
        "world.png": "the same as a sheet",
        "long.gif": "a hundred frames of the world that ships",
        "briefly.mp4": f"after {BRIEFLY} steps of finetuning",
        "verify/report.json": "every claim, measured",
        "world.json": "every figure, with intervals",
    }.items():
        print_line(f"  {file:22} {what}")
    invite(world)


if __name__ == "__main__":
    main()

"""How long `v2w verify` takes on a model of full size, and how much memory.

    python benchmarks/verify.py FOLDER [--size 3] [--memory GB] [--budget MINUTES]

In FOLDER a checkpoint is made with the names and shapes of Stable Video Diffusion's denoiser (1.52 billion numbers in
bfloat16, 3 GB, in shards), of random numbers through which activations stay finite; it is converted, and verified against its
base in a process of its own. What is there already is used again; nothing is removed.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from convert import anonymous, svd

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.open import open_source


def calm(folder: Path) -> None:
    """Put normal numbers into every tensor of a checkpoint in bfloat16: weights that neither blow up nor fade out."""
    generator = torch.Generator().manual_seed(0)
    for name, info in open_source(folder).tensors.items():
        with info.file.open("r+b") as stream:
            stream.seek(info.start)
            stream.write(_drawn(name, info, generator).view(torch.uint8).numpy().tobytes())


def _drawn(name: str, info: TensorInfo, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randn(info.shape, generator=generator)
    if len(info.shape) > 1:
        drawn /= math.sqrt(math.prod(info.shape[1:]))
    else:
        drawn = 0.1 * drawn + ("norm" in name and name.endswith("weight"))
    return drawn.to(torch.bfloat16).flatten()


def measure(arguments: list[str]) -> int:
    """`v2w` here, and what it took on the last line."""
    from v2w_convert.cli import run

    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    clock = time.perf_counter()
    code = run(arguments)
    clock = time.perf_counter() - clock
    done.set()
    watching.join()
    print(json.dumps({"exit": code, "seconds": round(clock), "peak_gb": round(peak / 1e9, 2)}), flush=True)
    return code


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to make the checkpoint and the converted one")
    parser.add_argument("--size", type=float, default=3.0, help="GB")
    parser.add_argument("--memory", type=float, help="GB, as for v2w verify")
    parser.add_argument("--budget", type=float, help="minutes, as for v2w verify")
    arguments = parser.parse_args()
    base, out = (arguments.folder / f"{name}-{arguments.size:g}" for name in ("base", "converted"))
    if not base.exists():
        making = base.with_suffix(".part")
        calm(svd(making, arguments.size))
        making.rename(base)
    subprocess.run(
        [sys.executable, "-m", "v2w_convert", "convert", base, "-o", out, "--action-dim", "3"], check=True
    )
    options = ["--base", str(base), "-o", str(arguments.folder / "report"), "--json"]
    for name in ("memory", "budget"):
        if getattr(arguments, name) is not None:
            options += [f"--{name}", str(getattr(arguments, name))]
    command = [sys.executable, __file__, "--measure", "verify", str(out), *options]
    sys.exit(subprocess.run(command, env=os.environ).returncode)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.exit(measure(sys.argv[2:]))
    main()

"""How much memory `v2w rollout` takes, by the number of frames and by what it writes.

    python benchmarks/rollout_memory.py [WORLD --data DATA] [--frames 200 --frames 2000] [--steps 10]

Every rollout is a process of its own, as a user starts it; its peak is the largest resident set that the system counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOOM = Path(__file__).parents[1] / "examples" / "doom"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path, nargs="?", default=DOOM / "world")
    parser.add_argument("--data", type=Path, default=DOOM / "data" / "test")
    parser.add_argument(
        "--frames", type=int, action="append", help="may be given several times (200 and 2000)"
    )
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--suffix", action="append", help="may be given several times (.mp4, .gif and .png)")
    given = parser.parse_args()
    print("| output | frames | peak MB | CPU s | wall s | file MB |\n|---|---|---|---|---|---|")
    for suffix in given.suffix or [".mp4", ".gif", ".png"]:
        for count in given.frames or [200, 2000]:
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / f"rollout{suffix}"
                command = [sys.executable, "-m", "v2w_convert", "rollout", given.world, "--data", given.data]
                command += ["-o", output, "--frames", count, "--steps", given.steps, "--json"]
                clock = time.perf_counter()
                child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
                assert child.stdout is not None
                said = child.stdout.read()
                _, code, used = os.wait4(child.pid, 0)
                clock = time.perf_counter() - clock
                assert code == 0 and json.loads(said)["frames"] == count, said
                size, peak = output.stat().st_size / 1e6, used.ru_maxrss * 1024 / 1e6
                cpu = used.ru_utime + used.ru_stime
                print(
                    f"| {suffix} | {count} | {peak:.0f} | {cpu:.0f} | {clock:.0f} | {size:.1f} |", flush=True
                )


if __name__ == "__main__":
    main()

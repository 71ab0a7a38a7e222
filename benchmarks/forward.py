"""One denoising pass of the shipped Doom world on one thread: this version beside an earlier one, in one run.

    python benchmarks/forward.py [--before 43bcd7a] [--rounds 40] [--passes 5] [--json FILE]

The earlier version is unpacked by `git archive` into a temporary folder. Each version runs in a process of its own, with its
own copy of examples/doom/world: it observes 16 frames, so that every window is full, and then denoises the next one, again
and again, without committing. The processes take turns, so that whatever else runs on the machine slows both alike. Printed
are medians over all rounds of a round's fastest pass, and the ratio of both within a round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORLD = "examples/doom/world"
B, H, W, FRAMES = 1, 8, 8, 16


def work(passes: int) -> None:
    """A version's process: a line in, `passes` passes, their milliseconds out as JSON."""
    import torch

    from v2w_convert import load

    torch.set_num_threads(1)
    world = load(Path(WORLD), dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(B, FRAMES + 1, 4, H, W, generator=generator)
    actions = torch.randn(B, FRAMES + 1, world.action_dim, generator=generator)
    stream = world.stream(B, H, W)
    stream.observe(frames[:, :FRAMES], actions[:, :FRAMES])
    level = torch.full((B, 1), 500.0)
    # Its name in the version of commit 43bcd7a.
    forward = world.forward_streamed if hasattr(world, "forward_streamed") else world.continued
    with torch.no_grad():
        for _ in sys.stdin:
            times = []
            for _ in range(passes):
                start = time.perf_counter(), time.process_time()
                output, _ = forward(stream.state, frames[:, FRAMES:], level, actions[:, FRAMES:])
                times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            wall, cpu = (1000 * min(x) for x in zip(*times, strict=True))
            print(json.dumps({"wall": wall, "cpu": cpu, "sum": float(output.double().sum())}), flush=True)


def started(folder: Path, passes: int) -> subprocess.Popen[str]:
    """A process of the version in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--work", str(passes)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def one_round(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    answer: dict[str, float] = json.loads(process.stdout.readline())
    return answer


def compare(before: Path, rounds: int, passes: int) -> dict[str, Any]:
    """Medians in milliseconds of both versions, and of the ratio within a round."""
    processes = {"before": started(before, passes), "after": started(ROOT, passes)}
    try:
        for process in processes.values():
            one_round(process)  # warm up
        found = []
        for number in range(rounds):
            order = list(processes) if number % 2 else list(processes)[::-1]
            answers = {name: one_round(processes[name]) for name in order}
            found.append(answers)
    finally:
        for process in processes.values():
            process.kill()
    result: dict[str, Any] = {"rounds": rounds, "passes": passes}
    for kind in ("cpu", "wall"):
        for name in processes:
            result[f"{name}_{kind}_ms"] = statistics.median(answers[name][kind] for answers in found)
        result[f"{kind}_ratio"] = statistics.median(
            answers["after"][kind] / answers["before"][kind] for answers in found
        )
    result["outputs_differ_by"] = abs(found[0]["after"]["sum"] - found[0]["before"]["sum"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", default="43bcd7a", help="a commit of the earlier version")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--passes", type=int, default=5, help="in a round; the fastest counts")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        work(given.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "before.tar"
        subprocess.run(["git", "archive", "-o", archive, given.before], cwd=ROOT, check=True)
        with tarfile.open(archive) as tar:
            tar.extractall(Path(folder) / "before", filter="data")
        result = compare(Path(folder) / "before", given.rounds, given.passes)
    for kind in ("cpu", "wall"):
        before, after = result[f"before_{kind}_ms"], result[f"after_{kind}_ms"]
        print(
            f"{kind:4} ms a pass: {before:.1f} before, {after:.1f} now, ratio {result[f'{kind}_ratio']:.2f}"
        )
    print(f"sums of the outputs differ by {result['outputs_differ_by']:.1e}")
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

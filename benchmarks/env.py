"""Rollouts of an environment, batched in one `WorldVectorEnv` and one at a time in as many `WorldEnv`s, in turns.

    OMP_NUM_THREADS=1 python benchmarks/env.py [WORLD --data DATA] [--envs 32] [--rounds 3] [--steps 2]

Prints CPU and wall seconds for a step of all of them, and where the time of a batched one goes. CPU seconds count: others may
use the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from v2w_convert.env import WorldEnv, WorldVectorEnv

DOOM = Path(__file__).parents[1] / "examples" / "doom"


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path, nargs="?", default=DOOM / "world")
    parser.add_argument("--data", type=Path, default=DOOM / "data" / "test")
    parser.add_argument("--envs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="denoising steps of a frame")
    parser.add_argument("--observation", choices=["pixels", "latents"], default="pixels")
    given = parser.parse_args()
    how = {"starts": given.data, "steps": given.steps, "observation": given.observation}
    n = given.envs
    single, envs = WorldEnv(given.world, **how), WorldVectorEnv(given.world, num_envs=n, **how)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    moments = [envs.branch(row) for row in range(n)]
    actions = envs.action_space.sample()

    def alone() -> None:
        for moment, action in zip(moments, actions, strict=True):
            single.restore(moment)
            single.step(action)

    def together() -> None:
        envs.restore(moments)
        envs.step(actions)

    single.reset(seed=0)
    single.step(actions[0])  # the first pass is slower
    found = [(seconds(alone), seconds(together)) for _ in range(given.rounds)]
    print(f"{n} environments, {given.steps} denoising steps, {torch.get_num_threads()} threads, medians:")
    print("| | CPU s | wall s |\n|---|---|---|")
    for name, which in (("one at a time", 0), ("batched", 1)):
        cpu, wall = (statistics.median(pair[which][kind] for pair in found) for kind in (0, 1))
        print(f"| {name} | {cpu:.2f} | {wall:.2f} |")
    ratios = [[pair[0][kind] / pair[1][kind] for pair in found] for kind in (0, 1)]
    print("| ratio in a round, median | " + " | ".join(f"{statistics.median(x):.2f}" for x in ratios) + " |")

    envs.restore(moments)
    batched = envs.step(actions)[0].astype(np.float64)
    one = []
    for moment, action in zip(moments, actions, strict=True):
        single.restore(moment)
        one.append(single.step(action)[0].astype(np.float64))
    apart = np.abs(batched - np.stack(one))
    print(
        f"batched and alone differ in {(apart > 0).mean():.2%} of the numbers, by {apart.max():.3g} at most"
    )
    for name, run in (("alone", alone), ("batched", together)):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            run()
        events = profiler.key_averages()
        whole = sum(event.self_cpu_time_total for event in events)
        costly = sorted(events, key=lambda event: -event.self_cpu_time_total)[:6]
        shares = ", ".join(f"{event.key} {event.self_cpu_time_total / whole:.0%}" for event in costly)
        print(f"{name}: {shares}")


if __name__ == "__main__":
    main()

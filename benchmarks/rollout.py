"""What a frame of a rollout costs: early and late, by engine, threads and batch, and beside recomputing the window.

    python benchmarks/rollout.py [WORLD] [--engine torch --engine onnx] [--threads 1 --threads 2] [--batch 1 --batch 32]
    python benchmarks/rollout.py --model svd|wan --device cuda [--engine torch --engine compile --engine graphs]

Each engine with each number of threads is a process of its own. They take turns at every measurement, in an order that is
turned round each time, so that whatever else runs on the machine slows all alike. Given are medians of milliseconds, CPU
(all threads) and wall, without decoding:

`frame N`: the frame after N, streamed: as many passes as steps, and one that commits. Weights and windows are full.
`recomputed T`: the same frame without a state: as many passes as steps, each over the last T frames.
`begin`: the model opened and a frame of one pass, where the engine has begun before: its graph is kept, in the user's cache folder.
`pass N`: one pass over N blocks that commits nothing. Two at once is what a commit folded into the next frame would cost.

WORLD (examples/doom/world) is read; `--model` makes one with random weights: of reduced width on a CPU, of published size
on a card. `graphs` is torch.compile with CUDA graphs; its outputs are copied, since the next call overwrites them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOOM = ROOT / "examples" / "doom" / "world"
Measured = tuple[float, float]  # milliseconds computed, and that passed


class Graphs:
    """A world compiled with CUDA graphs, as rollouts need it."""

    def __init__(self, world: Any):
        world.compile(mode="reduce-overhead")
        self.world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def forward_streamed(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        from v2w_convert.sites import State

        torch.compiler.cudagraph_mark_step_begin()
        output, after = self.world.forward_streamed(state, *args, **kwargs)
        if after is state:
            return output.clone(), state
        sites = {site: {name: x.clone() for name, x in kept.items()} for site, kept in after.sites.items()}
        return output.clone(), State(after.cursor.clone(), sites)


class Worker:
    """One engine with one number of threads, in the process that measures it."""

    def __init__(self, given: argparse.Namespace):
        import torch

        from v2w_convert.device import resolve_dtype

        torch.set_num_threads(given.threads[0])
        self.torch, self.device = torch, torch.device(given.device)
        self.dtype = resolve_dtype(given.dtype, self.device)
        engine = given.engine[0]
        self.size, self.window = (8, 8), None
        if given.model is None:
            world: Any = self.opened(given.world, "torch" if engine == "graphs" else engine)
            self.again = lambda: self.opened(given.world, engine)
            side = getattr(world, "world", world).resolved.config.get("sample_size")
            self.size = (side, side) if isinstance(side, int) else self.size
        else:
            world = self.random(given.model, engine)
        self.world: Any = Graphs(world) if engine == "graphs" else world
        self.eager = world
        self.steps = given.steps
        self.states: dict[tuple[int, int], Any] = {}

    def opened(self, folder: Path, engine: str) -> Any:
        from v2w_convert.engines.open import open_engine

        return open_engine(folder, engine, self.device, self.dtype)

    def random(self, model: str, engine: str) -> Any:
        """A converted model with random weights."""
        from finetune import FULL, REDUCED, settings_of
        from finetune_memory import random_world, unread

        from v2w_convert.engines.onnx_world import OnnxWorld

        case = (FULL if self.device.type == "cuda" else REDUCED)[model]
        settings = settings_of(case, self.device)
        world = random_world(unread(case.kind, case.config), settings)
        world = world.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        self.size = case.size
        self.window = None if world.resolved.window else case.frames
        if engine == "compile":
            world.compile()
        return OnnxWorld(world) if engine == "onnx" else world

    def frames(self, b: int, t: int) -> tuple[Any, Any, Any]:
        """Random latents, their levels and actions, of t blocks."""
        torch, t = self.torch, t * self.world.frames_per_block
        generator = torch.Generator().manual_seed(b + t)
        latents = torch.randn(b, t, self.world.channels, *self.size, generator=generator)
        actions = torch.randn(b, t, self.world.action_dim, generator=generator)
        level = torch.full((b, t), self.world.noise.max_level / 2, device=self.device)
        return latents.to(self.device, self.dtype), level, actions.to(self.device, self.dtype)

    def stream(self, b: int, seen: int) -> Any:
        """b rollouts that have seen so many blocks; all have the past of one."""
        from v2w_convert.sites import State
        from v2w_convert.world.rollout import Sampling, start_stream

        stream = start_stream(self.world, b, *self.size, sampling=Sampling(self.steps), window=self.window)
        if (1, seen) not in self.states:
            one = start_stream(self.world, 1, *self.size, window=self.window)
            for _ in range(seen):
                latents, _, actions = self.frames(1, 1)
                one.observe(latents, actions)
            self.states[1, seen] = one.state
        kept = self.states[1, seen]
        if (b, seen) not in self.states:
            sites = {
                site: {name: x.repeat(b, *[1] * (x.ndim - 1)) for name, x in own.items()}
                for site, own in kept.sites.items()
            }
            self.states[b, seen] = State(kept.cursor, sites)
        stream.state = self.states[b, seen]
        return stream

    def prepared(self, kind: str, number: int, b: int) -> Callable[[], Any]:
        """What is measured, ready to run."""
        if kind == "begin":
            return self.begin
        latents, level, actions = self.frames(b, number if kind != "frame" else 1)
        if kind == "frame":
            stream = self.stream(b, number)
            return lambda: stream.branch().step_block(actions)
        if kind == "recomputed":
            return lambda: [self.eager(latents, level, actions) for _ in range(self.steps)]
        state = self.stream(b, 16).state
        return lambda: self.world.forward_streamed(state, latents, level, actions)

    def begin(self) -> None:
        from v2w_convert.world.rollout import Sampling, start_stream

        _, _, actions = self.frames(1, 1)
        start_stream(self.again(), 1, *self.size, sampling=Sampling(1), window=self.window).step_block(
            actions
        )

    def measured(self, kind: str, number: int, b: int, warm: bool) -> Measured:
        """Milliseconds computed and passed, of one run; after another where it is the first."""
        run = self.prepared(kind, number, b)
        with self.torch.no_grad():
            for _ in range(2 if warm else 0):
                run()
            self.wait()
            start = time.process_time(), time.perf_counter()
            run()
            self.wait()
            return (time.process_time() - start[0]) * 1e3, (time.perf_counter() - start[1]) * 1e3

    def wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def serve(self) -> None:
        """A measurement asked for in a line, its milliseconds in a line."""
        for line in sys.stdin:
            print(json.dumps(self.measured(*json.loads(line))), flush=True)


def asked_of(worker: "subprocess.Popen[str]", *question: Any) -> Measured:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(json.dumps(question) + "\n")
    worker.stdin.flush()
    computed, passed = json.loads(worker.stdout.readline())
    return computed, passed


def started(engine: str, threads: int) -> "subprocess.Popen[str]":
    """A worker with the options of this process but for these two, of which the last counts."""
    environment = {"PYTHONPATH": str(ROOT), **os.environ, "OMP_NUM_THREADS": str(threads)}
    own = [f"--work={engine}", f"--work-threads={threads}"]
    return subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], *own],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def compare(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of medians: engine, threads, batch, what, milliseconds."""
    workers = {(engine, n): started(engine, n) for engine in given.engine for n in given.threads}
    rows = []
    try:
        for b in given.batch:
            cases = [("frame", at) for at in given.at]
            if b == 1:
                cases += [("begin", 1)] if given.model is None else []
                cases += [("pass", 1), ("pass", 2)] + [("recomputed", t) for t in given.window]
            found: dict[tuple[Any, ...], list[Measured]] = {}
            runs = [
                (*key, *case)
                for case in cases
                for key in workers
                if not (key[0] == "onnx" and (case[0] == "recomputed" or case == ("pass", 2)))
                and not (key[0] == "graphs" and case[0] in ("recomputed", "begin"))
                and not (key[0] == "compile" and case[0] == "begin")
            ]
            for number in range(given.rounds + 1):
                for engine, n, kind, at in runs if number % 2 else runs[::-1]:
                    took = asked_of(workers[engine, n], kind, at, b, number == 0)
                    if number:
                        found.setdefault((engine, n, kind, at), []).append(took)
            for (engine, n, kind, at), times in found.items():
                cpu, wall = (statistics.median(axis) for axis in zip(*times, strict=True))
                rows.append(
                    {
                        "engine": engine,
                        "threads": n,
                        "batch": b,
                        "what": f"{kind} {at}",
                        "cpu": cpu,
                        "wall": wall,
                    }
                )
                print(f"| {b} | {engine} | {n} | {kind} {at} | {cpu:.1f} | {wall:.1f} |", flush=True)
    finally:
        for worker in workers.values():
            worker.kill()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    several: dict[str, Any] = {"type": int, "action": "append"}
    parser.add_argument("world", type=Path, nargs="?", default=DOOM)
    parser.add_argument("--engine", action="append", choices=("torch", "compile", "onnx", "graphs"))
    parser.add_argument("--threads", **several, help="may be given several times (1 and 2)")
    parser.add_argument("--batch", **several, help="rollouts side by side (1, 4, 16 and 32)")
    parser.add_argument("--at", **several, help="frames that were seen (16 and 256)")
    parser.add_argument("--window", **several, help="frames that are recomputed (16 and 32)")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps of a frame")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", choices=("svd", "wan"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--work-threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        given.engine, given.threads = [given.work], [given.work_threads]
        Worker(given).serve()
        return
    on_card = given.device.startswith("cuda")
    given.engine = given.engine or (
        ["torch", "compile", "graphs"] if on_card else ["torch", "compile", "onnx"]
    )
    given.threads = given.threads or ([1] if on_card else [1, 2])
    given.batch, given.at = given.batch or [1, 4, 16, 32], given.at or [16, 256]
    given.window = given.window or [16, 32]
    print("| batch | engine | threads | what | CPU ms | wall ms |\n|---|---|---|---|---|---|")
    rows = compare(given)
    print(f"load {os.getloadavg()[0]:.1f}")
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""How fast `v2w play` is in a real browser (headless Chromium): frames a second, and milliseconds from a key to its picture.

    python benchmarks/play.py [WORLD --data DATA] [--engine torch --engine onnx] [--steps 1 --steps 2] [--seconds 15] [--screenshots FOLDER]

The server is a process of its own, as a user starts it. A key is pressed and let go twice a second; a latency is the time
from the event in the page until a picture that the new action led to is drawn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser import Browser, open_browser

DOOM = Path(__file__).parents[1] / "examples" / "doom"


def measure(browser: Browser, url: str, steps: int, seconds: float) -> tuple[float, float, float]:
    """Frames a second, and the median and 90th percentile of the latencies in milliseconds."""
    browser.open(url)
    browser.wait_for("hello && document.querySelector('#picture').dataset.number")
    browser.value(
        f"document.querySelector('#rate').value = 60, document.querySelector('#steps').value = hello.steps.indexOf({steps}), sample()"
    )
    keys = browser.value("controls.map(control => control.key).filter(Boolean).slice(0, 2)")
    browser.press(keys[0], True)
    browser.wait_for("place >= 8")
    browser.value("latencies.length = 0; window.before = [performance.now(), place]; 0")
    latencies: list[float] = []
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        turn += 1
        browser.press(keys[turn % 2], True)  # the last of two that are held is what is done
        browser.press(keys[(turn + 1) % 2], False)
        time.sleep(0.5)
        latencies += browser.value("latencies.splice(0)")
    fps = browser.value("(place - before[1]) * 1000 / (performance.now() - before[0])")
    browser.press(keys[turn % 2], False)
    return fps, statistics.median(latencies), statistics.quantiles(latencies, n=10)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path, nargs="?", default=DOOM / "world")
    parser.add_argument("--data", type=Path, default=DOOM / "data" / "test")
    parser.add_argument("--steps", type=int, action="append", help="may be given several times (1, 2 and 4)")
    parser.add_argument("--engine", action="append", help="may be given several times (torch)")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--screenshots", type=Path, help="a folder to write them into")
    given = parser.parse_args()
    print("| engine | steps | frames a second | key to picture, ms: median | 90 % | CPU s a frame | load |")
    print("|---|---|---|---|---|---|---|")
    for engine in given.engine or ["torch"]:
        with served(given, engine) as server, open_browser() as browser:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            browser.size(1280, 860)
            for steps in given.steps or [1, 2, 4]:
                began = cpu_seconds(server.pid)
                fps, median, most = measure(browser, url, steps, given.seconds)
                frames = browser.value("place")
                cpu = (cpu_seconds(server.pid) - began) / frames
                load = os.getloadavg()[0]
                print(
                    f"| {engine} | {steps} | {fps:.1f} | {median:.0f} | {most:.0f} | {cpu:.3f} | {load:.1f} |",
                    flush=True,
                )
            if given.screenshots is not None:
                take_screenshots(browser, url, given.screenshots)


@contextmanager
def served(given: argparse.Namespace, engine: str) -> Iterator[subprocess.Popen[str]]:
    """`v2w play`, whose first line says where."""
    command = [sys.executable, "-m", "v2w_convert", "play", given.world, "--data", given.data, "--port", 0]
    server = subprocess.Popen(
        [*map(str, command), "--engine", engine, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield server
    finally:
        server.terminate()
        server.wait()


def cpu_seconds(process: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def take_screenshots(browser: Browser, url: str, folder: Path) -> None:
    """Of the page at two widths, in light and dark colours."""
    folder.mkdir(parents=True, exist_ok=True)
    for width, dark in ((1280, False), (390, True)):
        browser.size(width, 860, dark)
        browser.open(url)
        browser.wait_for("hello && document.querySelector('#picture').dataset.number")
        browser.value("begin(Math.min(3, hello.starts.length - 1))")
        browser.press("ArrowUp", True)
        browser.wait_for("place >= 6 && queue.length === 0")
        browser.screenshot(folder / f"play-{width}.png")
        browser.press("ArrowUp", False)


if __name__ == "__main__":
    main()

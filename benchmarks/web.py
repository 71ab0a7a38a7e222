"""How fast the folder of `v2w export --web` is in a real browser (headless Chromium, WebAssembly: model and decoder on one thread each).

    python benchmarks/web.py FOLDER [--steps 1 --steps 2 --steps 4] [--frames 60] [--screenshots FOLDER]

FOLDER is served on this machine. The page plays as fast as it can, while the first of its actions is held.
"""

import argparse
import os
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser import Browser, open_browser

COUNT = "Number(document.querySelector('#count').textContent)"
SPEED = "(() => { const choice = document.querySelector('#speed'); choice.value = 'most'; choice.dispatchEvent(new Event('change')); })()"


class Handler(SimpleHTTPRequestHandler):
    """Serves the folder, without a word."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def measure(browser: Browser, url: str, steps: int, frames: int) -> tuple[float, float]:
    """Seconds from opening the page until it can be played, and frames a second then."""
    began = time.perf_counter()
    browser.open(url)
    browser.wait_for("!document.querySelector('#run').disabled", 120)
    opened = time.perf_counter() - began
    choose = f"const choice = document.querySelector('#steps'); choice.value = '{steps}'; choice.dispatchEvent(new Event('change'));"
    browser.value(f"(() => {{ {choose} }})(); {SPEED}; document.querySelector('#run').click()")
    browser.wait_for(f"{COUNT} >= 10")
    began, first = time.perf_counter(), browser.value(COUNT)
    browser.wait_for(f"{COUNT} >= {first + frames}", 300)
    return opened, (browser.value(COUNT) - first) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, action="append", help="may be given several times (1, 2 and 4)")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--screenshots", type=Path, help="a folder to write them into")
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(given.folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    print("| steps | seconds until it can be played | frames a second | load |\n|---|---|---|---|")
    with open_browser() as browser:
        browser.size(1280, 860)
        for steps in given.steps or [1, 2, 4]:
            opened, rate = measure(browser, url, steps, given.frames)
            print(f"| {steps} | {opened:.1f} | {rate:.1f} | {os.getloadavg()[0]:.1f} |", flush=True)
        if given.screenshots is not None:
            given.screenshots.mkdir(parents=True, exist_ok=True)
            for width, dark in ((1280, False), (390, True)):
                browser.size(width, 860, dark)
                browser.open(url)
                browser.wait_for("!document.querySelector('#run').disabled", 120)
                browser.value("document.querySelector('#run').click()")
                browser.wait_for(f"{COUNT} >= 8")
                browser.screenshot(given.screenshots / f"web-{width}.png")
    server.shutdown()


if __name__ == "__main__":
    main()

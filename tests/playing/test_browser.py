"""The page in a real browser: keys are pressed, and pictures come."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("uvicorn")  # of the extra `play`

import uvicorn

from tests.browser import find_browser, open_browser
from tests.playing.conftest import SETTINGS, House
from v2w_convert.playing.game import Game, open_game
from v2w_convert.playing.server import address_of, application, listen
from v2w_convert.progress import no_progress

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed"),
]


@contextmanager
def served(house: House, game: Game) -> Iterator[str]:
    """The address of a server in another thread."""
    settings = SETTINGS.model_copy(update={"port": 0})
    with listen(settings) as listening:
        config = uvicorn.Config(
            application(game, settings, house.worker), log_config=None, lifespan="off", ws="websockets-sansio"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        try:
            yield address_of(listening, settings)
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_visit(
    serve: Callable[..., House], tiny_converted: Path, tiny_data: Path, tmp_path: Path, engine: str
) -> None:
    number, place = "Number(document.querySelector('#picture').dataset.number || 0)", "place"
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    cache = tmp_path if engine == "onnx" else None
    settings = SETTINGS.model_copy(update={"engine": engine, "cache": cache})
    game = open_game(tiny_converted, tiny_data, settings, no_progress)
    told: list[str] = []

    def of_prompt(prompt: str) -> dict[str, torch.Tensor]:
        told.append(prompt)
        return {}

    game.prompt_conditions = of_prompt
    with served(serve(game, rate=30), game) as url, open_browser() as browser:
        for width, dark in ((1280, False), (390, True)):
            browser.size(width, 844, dark)
            browser.open(url)
            browser.wait_for(f"hello && {number} === 1")
            # No part is wider than the window, and nothing without a name can be focused.
            assert browser.value("document.documentElement.scrollWidth") <= width
            unnamed = "[...document.querySelectorAll('button, a, input')].filter(x => !(x.textContent.trim() || x.ariaLabel || (x.labels && x.labels.length))).length"
            assert browser.value(unnamed) == 0
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(19, 23, 27)"

        before = browser.value("document.querySelector('#picture').toDataURL()")
        browser.value("setAmount(amounts[0], amounts[0].high)")
        browser.wait_for(f"{place} >= 5")
        assert browser.value("latencies.length") >= 1
        assert browser.value("document.querySelector('#picture').toDataURL()") != before
        browser.press("KeyP", True)
        browser.press("KeyP", False)
        assert browser.wait_for("document.querySelector('#run').textContent.startsWith('Play')")
        reached: Any = browser.value(place)
        browser.press("KeyB", True)
        browser.press("KeyB", False)
        browser.wait_for(f"{place} < {reached}")
        browser.value("document.querySelectorAll('#starts button')[1].click()")
        browser.wait_for(f"{place} === 0 && start === 1")
        # A picture of one's own: red, wider than the world's, and 1,000 times as large.
        wide = "(() => { const c = new OffscreenCanvas(6400, 3200), x = c.getContext('2d'); x.fillStyle = '#ff0000'; x.fillRect(0, 0, 6400, 3200); return c.convertToBlob(); })()"
        browser.value(f"void {wide}.then(beginFrom)")
        browser.wait_for(
            f"own && {place} === 0 && [...context.getImageData(8, 8, 1, 1).data].join() === '255,0,0,255'"
        )
        browser.press("KeyN", True)
        browser.press("KeyN", False)
        browser.wait_for(f"{place} === 1")
        browser.press("KeyR", True)
        browser.press("KeyR", False)
        browser.wait_for(f"{place} === 0 && own === true")
        # A prompt of one's own; its letters are no commands.
        browser.value("document.querySelector('#prompt').focus()")
        browser.press("KeyN", True)
        browser.press("KeyN", False)
        browser.value("document.querySelector('#prompt').value = 'a \u00abmaze\u00bb'")
        browser.value("document.querySelector('#told').requestSubmit()")
        browser.wait_for("document.activeElement !== document.querySelector('#prompt')")
        browser.press("KeyN", True)
        browser.press("KeyN", False)
        browser.wait_for(f"{place} === 1")
        assert told == ["a \u00abmaze\u00bb"]
        browser.value("void beginFrom(new Blob(['no picture']))")
        browser.wait_for("document.querySelector('#message').textContent.includes('cannot read this file')")
        saved = "fetch(document.querySelector('#record').href).then(x => x.blob()).then(x => { window.saved = x.type; })"
        browser.value(f"void {saved}")
        assert browser.wait_for("window.saved") == "video/mp4"
        assert not browser.exceptions

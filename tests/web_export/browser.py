"""A page of an exported folder in headless Chromium, whose script posts its findings back to the test."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.browser import open_browser


class Handler(SimpleHTTPRequestHandler):
    """Serves the exported folder, and on top of it files of the test, which are not part of it."""

    def __init__(self, *args: Any, extra: dict[str, bytes], found: "Queue[Any]", **kwargs: Any):
        self.extra, self.found = extra, found
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        content = self.extra.get(self.path.lstrip("/").split("?")[0])
        if content is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(self.path))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def visit(folder: Path, page: str, extra: dict[str, bytes], timeout: float = 240) -> Any:
    """What the page posts to the server that it is from.

    Args:
        folder: An exported folder.
        page: Which of its files, or of the extra ones, is opened.
        extra: Files of the test, by name; they take precedence.
        timeout: Seconds.

    Raises:
        AssertionError: It posts nothing in time.
    """
    found: Queue[Any] = Queue()
    handler = partial(Handler, directory=str(folder), extra=extra, found=found)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with open_browser() as browser:
            browser.open(f"http://127.0.0.1:{server.server_port}/{page}")
            return found.get(timeout=timeout)
    except Empty:
        raise AssertionError(f"{page} posted nothing in {timeout} s") from None
    finally:
        server.shutdown()
        server.server_close()

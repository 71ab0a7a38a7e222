"""A tiny world with its server, and visitors of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from v2w_convert.playing.game import Game, open_game
from v2w_convert.playing.protocol import HEADER
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.playing.worker import Worker
from v2w_convert.progress import no_progress

HERE = "http://localhost:8000"
SOCKET = "ws://localhost:8000/play"
SETTINGS = PlaySettings(steps=1, history=2, visitors=2, rate=1000, starts=3)


class Page:
    """What the page does, without its looks."""

    def __init__(self, socket: Any):
        self.socket = socket
        self.hello = socket.receive_json()

    def says(self, **wish: Any) -> None:
        self.socket.send_json(wish)

    def picture(self, seen: bool = True) -> tuple[tuple[int, int, int, float, int], bytes]:
        """The next picture: what is said of it, and its file."""
        message = self.socket.receive_bytes()
        said = HEADER.unpack_from(message)
        if seen:
            self.says(type="seen", number=said[0])
        return said, message[HEADER.size :]


class House:
    """A server that is running.

    Attributes:
        worker: Its worker.
        client: Asks it.
    """

    def __init__(self, worker: Worker, client: Any):
        self.worker, self.client = worker, client

    @contextmanager
    def visit(self, origin: str = HERE) -> Iterator[Page]:
        with self.client.websocket_connect(SOCKET, headers={"origin": origin}) as socket:
            yield Page(socket)


@pytest.fixture(scope="session")
def game(tiny_converted: Path, tiny_data: Path) -> Game:
    return open_game(tiny_converted, tiny_data, SETTINGS, no_progress)


@pytest.fixture
def serve(game: Game) -> Iterator[Callable[..., House]]:
    """Starts servers of the tiny world, with settings that differ."""
    from starlette.testclient import (
        TestClient,
    )  # of the extra `play`: modules of tests skip themselves without it

    from v2w_convert.playing.server import application

    workers = []

    def start(game: Game = game, **settings: Any) -> House:
        own = SETTINGS.model_copy(update=settings)
        worker = Worker(game, own, lambda line: said.append(line))
        worker.start()
        workers.append(worker)
        return House(worker, TestClient(application(game, own, worker), base_url=HERE))

    said: list[str] = []
    yield start
    for worker in workers:
        worker.end()
    assert not said, said


@pytest.fixture
def house(serve: Callable[..., House]) -> House:
    return serve()
